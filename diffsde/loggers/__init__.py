"""Trackers that a run's losses go to besides metrics.jsonl."""

from diffsde.loggers.logger import LoggedStep, Logger, NoLogger, Recorder, Session, figures, flat_config
from diffsde.loggers.mlflow import MLflow
from diffsde.loggers.tensorboard import TensorBoard
from diffsde.loggers.wandb import Wandb

LOGGERS: dict[str, type[Logger]] = {
    "none": NoLogger,
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
}

__all__ = [
    "LOGGERS",
    "LoggedStep",
    "Logger",
    "MLflow",
    "NoLogger",
    "Recorder",
    "Session",
    "TensorBoard",
    "Wandb",
    "figures",
    "flat_config",
]
