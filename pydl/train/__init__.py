"""Training: loops that can be stopped at any moment and go on to the same bytes."""

from pydl.train.char_lm import CharLMTrainer, DivergedError, SavedRun, TrainingObserver, TrainingOptions, evaluate

__all__ = ["CharLMTrainer", "DivergedError", "SavedRun", "TrainingObserver", "TrainingOptions", "evaluate"]
