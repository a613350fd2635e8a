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
from multimodal.watching import Reader


class VideoData(PictureData):
    """Clips are decoded apart from the worker, and not at all where their features are known."""

    def task(self) -> Task:
        """Next token by next token."""
        task = super().task()
        assert isinstance(task, PictureTask)
        processor = copy.copy(task.processor)
        if processor.watcher is not None:
            from video.contained import ContainedDecoder

            # A decoder that crashes or hangs costs its clip, not the run.
            reader: Reader = ContainedDecoder().stream
            known = None
            if self.trainer is not None:
                find = getattr(self.trainer.lightning_module, "cache", lambda: None)
                known = find()
            processor.watcher = replace(processor.watcher, reader=reader, known=known)
        return PictureTask(processor)
