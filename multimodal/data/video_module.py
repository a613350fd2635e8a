"""Clips with captions or dialogues, for the stages of the video parts.

data:
  class_path: multimodal.data.video_module.VideoData
  init_args:
    train:
      - {path: "clips/{00000..00999}.tar", weight: 3}
      - {path: dialogues.jsonl, weight: 1}
    batch_size: 64

Shards hold `KEY.mp4|webm|mkv` beside `KEY.json`. Order, mixture, resuming and the budget of broken
samples are those of pictures (`multimodal.data.module`), which may stand among the clips.
"""

import copy
from dataclasses import replace

from multimodal.data.module import PictureData
from multimodal.data.tasks import PictureTask, Task


class VideoData(PictureData):
    """Clips are not decoded where the features of their frames are known."""

    def task(self) -> Task:
        """Next token by next token."""
        task = super().task()
        assert isinstance(task, PictureTask)
        processor = copy.copy(task.processor)
        if processor.watcher is not None and self.trainer is not None:
            # Asked of the module, which knows its encoder; one that keeps nothing has no cache.
            cache = getattr(self.trainer.lightning_module, "cache", lambda: None)
            processor.watcher = replace(processor.watcher, known=cache())
        return PictureTask(processor)
