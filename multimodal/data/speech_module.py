"""Data modules of speech: batches by total duration (`multimodal.data.durations`).

data:
  class_path: multimodal.data.speech_module.SpeechData
  init_args:
    train:
      - {path: "german/{00000..00099}.tar", weight: 3}
      - {path: librispeech/train.json, weight: 1}
    max_batch_seconds: 2400
    translate: 0.5
"""

from collections.abc import Sequence

from language.errors import InputError
from multimodal.data.durations import DurationPlan
from multimodal.data.module import SampleData, SourceConfig, StartMethod
from multimodal.data.order import Mixture
from multimodal.data.samples import Source
from multimodal.data.speech import SpeechPretrainingTask, SpeechTask, TimedTask, open_speech
from multimodal.data.tasks import Task
from multimodal.processor import Processor


class _TimedData(SampleData):
    """Sources of recordings, and batches of so many seconds."""

    batch_key = "batch_multiple"

    def __init__(
        self,
        *,
        train: Sequence[SourceConfig],
        validation: Sequence[SourceConfig],
        test: Sequence[SourceConfig],
        max_batch_seconds: float,
        batch_multiple: int,
        max_batch_size: int | None,
        num_workers: int,
        prefetch: int,
        window: int,
        seed: int,
        max_broken_share: float,
        start_method: StartMethod | None,
        cache: str | None,
    ) -> None:
        super().__init__(
            train=train,
            validation=validation,
            test=test,
            batch_size=batch_multiple,
            num_workers=num_workers,
            prefetch=prefetch,
            window=window,
            seed=seed,
            max_broken_share=max_broken_share,
            start_method=start_method,
            cache=cache,
        )
        self.max_batch_seconds, self.max_batch_size = max_batch_seconds, max_batch_size

    @property
    def row_seconds(self) -> float:
        """Most that one row of a batch may last."""
        return self.max_batch_seconds / self.batch_size

    def open_source(self, config: SourceConfig) -> Source:
        """Shards, JSONL or manifests."""
        return open_speech(config.path, name=config.name, cache=self.cache)

    def plan(
        self, mixture: Mixture, sources: Sequence[Source], task: Task, *, once: bool
    ) -> DurationPlan:
        """Batches by duration."""
        return DurationPlan(
            mixture=mixture,
            max_batch_seconds=self.max_batch_seconds,
            duration=_Duration(sources, task),  # type: ignore[arg-type]  # both tasks are timed
            multiple=self.batch_size,
            max_batch_size=self.max_batch_size,
            window=self.window,
            once=once,
        )

    def _check_room(self, max_seconds: float) -> None:
        """Batches must have room for the longest recordings, or none of these would be used."""
        if max_seconds > self.row_seconds:
            raise InputError(
                "data.max_batch_seconds",
                f"{self.max_batch_seconds:g} s for batch_multiple={self.batch_size} samples or "
                f"more are {self.row_seconds:g} s for each, but recordings may last "
                f"{max_seconds:g} s: raise it, or lower max_seconds",
            )


class SpeechPretrainingData(_TimedData):
    """Recordings, with or without text, for the speech encoder's own pre-training."""

    def __init__(
        self,
        *,
        train: Sequence[SourceConfig],
        validation: Sequence[SourceConfig] = (),
        test: Sequence[SourceConfig] = (),
        max_batch_seconds: float,
        batch_multiple: int = 8,
        max_batch_size: int | None = None,
        max_seconds: float = 60.0,
        num_workers: int = 2,
        prefetch: int = 2,
        window: int = 4096,
        seed: int = 1,
        max_broken_share: float = 0.01,
        start_method: StartMethod | None = None,
        cache: str | None = None,
    ) -> None:
        """Settings of the data.

        Args:
            train: sources to learn from: shards, JSONL or manifests.
            validation: sources for validation, read once in order.
            test: sources for the test, read once in order.
            max_batch_seconds: seconds of a batch over all data ranks, padding counted.
            batch_multiple: samples of a batch are a multiple of this number, which data ranks must
                divide; as long as they do, their number does not change the batches.
            max_batch_size: samples of a batch at most, over all data ranks.
            max_seconds: of longer recordings a part of this length is taken, from anywhere.
            num_workers: processes that decode, for each rank.
            prefetch: batches that each of them makes ahead.
            window: samples that are sorted together by duration.
            seed: decides the order of the samples, and what is cropped.
            max_broken_share: share of broken samples beyond which the run stops.
            start_method: how worker processes start.
            cache: folder for indexes and copies of remote files.

        Raises:
            InputError: a batch has no room for recordings of ``max_seconds``.
        """
        super().__init__(
            train=train,
            validation=validation,
            test=test,
            max_batch_seconds=max_batch_seconds,
            batch_multiple=batch_multiple,
            max_batch_size=max_batch_size,
            num_workers=num_workers,
            prefetch=prefetch,
            window=window,
            seed=seed,
            max_broken_share=max_broken_share,
            start_method=start_method,
            cache=cache,
        )
        self.max_seconds = max_seconds
        self._check_room(max_seconds)

    def task(self) -> SpeechPretrainingTask:
        """Waveforms."""
        return SpeechPretrainingTask(max_seconds=self.max_seconds)


class SpeechData(_TimedData):
    """Recordings with transcripts, translations or dialogues, for the speech adapter's stages.

    They are encoded by the `processor` of the module that is trained, so that prompts and lengths
    are those of its model.
    """

    processor: Processor | None = None

    def __init__(
        self,
        *,
        train: Sequence[SourceConfig],
        validation: Sequence[SourceConfig] = (),
        test: Sequence[SourceConfig] = (),
        max_batch_seconds: float,
        batch_multiple: int = 8,
        max_batch_size: int | None = None,
        max_seconds: float = 60.0,
        transcribe: float = 1.0,
        translate: float = 1.0,
        identify: float = 0.0,
        language: str | None = None,
        speeds: Sequence[float] = (1.0,),
        num_workers: int = 2,
        prefetch: int = 2,
        window: int = 4096,
        seed: int = 1,
        max_broken_share: float = 0.01,
        start_method: StartMethod | None = None,
        cache: str | None = None,
    ) -> None:
        """Settings of the data; those not described are `SpeechPretrainingData`'s.

        Args:
            train: sources to learn from: shards, JSONL or manifests.
            validation: sources for validation, read once in order.
            test: sources for the test, read once in order.
            max_batch_seconds: seconds of a batch over all data ranks, padding counted.
            batch_multiple: samples of a batch are a multiple of this number.
            max_batch_size: samples of a batch at most, over all data ranks.
            max_seconds: longer recordings are refused and counted, never cut.
            transcribe: how often, relative to the other tasks that a record allows, a recording
                is transcribed.
            translate: the same for its translation.
            identify: the same for the name of its language.
            language: spoken where a record names none; name or code.
            speeds: factors, one of which each training recording is played by.
            num_workers: processes that decode, for each rank.
            prefetch: batches that each of them makes ahead.
            window: samples that are sorted together by duration.
            seed: decides the order of the samples, their tasks and speeds.
            max_broken_share: share of broken samples beyond which the run stops.
            start_method: how worker processes start.
            cache: folder for indexes and copies of remote files.

        Raises:
            InputError: a batch has no room for recordings of ``max_seconds``.
        """
        super().__init__(
            train=train,
            validation=validation,
            test=test,
            max_batch_seconds=max_batch_seconds,
            batch_multiple=batch_multiple,
            max_batch_size=max_batch_size,
            num_workers=num_workers,
            prefetch=prefetch,
            window=window,
            seed=seed,
            max_broken_share=max_broken_share,
            start_method=start_method,
            cache=cache,
        )
        self.max_seconds = max_seconds
        self.weights = {"transcribe": transcribe, "translate": translate, "identify": identify}
        self.language, self.speeds = language, tuple(speeds)
        self._check_room(max_seconds)

    def task(self) -> SpeechTask:
        """Transcription, translation, dialogue."""
        return self._task(self.speeds)

    def evaluation_task(self) -> SpeechTask:
        """The same, with nothing played faster or slower."""
        return self._task((1.0,))

    def _task(self, speeds: tuple[float, ...]) -> SpeechTask:
        processor = self._processor()
        return SpeechTask(
            processor,
            **self.weights,
            language=self.language,
            max_seconds=min(self.max_seconds, processor.max_seconds),
            max_row_seconds=self.row_seconds,
            speeds=speeds,
        )

    def _processor(self) -> Processor:
        if self.processor is not None:
            return self.processor
        assert self.trainer is not None, "set data.processor, or use a trainer"
        processor = self.trainer.lightning_module.processor
        assert isinstance(processor, Processor)
        return processor


class _Duration:
    """Duration of a sample's row; a class, so that it can be sent to workers."""

    def __init__(self, sources: Sequence[Source], task: TimedTask) -> None:
        self.sources, self.task = sources, task

    def __call__(self, source: int, index: int, draw: int) -> tuple[int, float]:
        return self.task.duration(self.sources[source].extent(index), draw)
