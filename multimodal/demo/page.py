"""The page itself (Gradio): tabs for pictures, clips, recordings, and the comparison of two models.

What is done stands in `multimodal.demo.actions`; here it is laid out. Nothing is loaded from
elsewhere: fonts are the system's, and Gradio is told to send nothing home.
"""

import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr  # noqa: E402

from multimodal.demo.actions import Actions  # noqa: E402
from multimodal.demo.preferences import POINTS  # noqa: E402
from multimodal.languages import LANGUAGES  # noqa: E402
from multimodal.locations import TINY  # noqa: E402

FONTS = ["system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
SAMPLES = TINY / "samples"
ANY = "find out"
NAME_SAMPLES = """() => {
  const name = () => document.querySelectorAll('button.gallery-item').forEach((button, index) =>
    button.setAttribute('aria-label', `Sample ${index + 1}`));
  name();
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
}"""
"""Gives samples, which are pictures alone, names that a screen reader can say."""


def build(actions: Actions) -> gr.Blocks:
    """Lay the page out."""
    config = actions.assistant.model.config
    with gr.Blocks(title="openherd") as page:
        gr.Markdown(f"# openherd\n\n{actions.about()}")
        with gr.Tabs():
            if config.image_encoder is not None:
                with gr.Tab("Picture"):
                    _pictures(actions)
            if config.video_aggregator is not None:
                with gr.Tab("Clip"):
                    _clips(actions)
            if config.speech_encoder is not None:
                with gr.Tab("Recording"):
                    _recordings(actions)
            if actions.other is not None:
                with gr.Tab("Compare"):
                    _comparison(actions)
        page.load(None, None, None, js=NAME_SAMPLES)
    return page


def theme() -> gr.themes.Base:
    """The system's fonts, and nothing that is fetched."""
    return gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "Consolas", "monospace"])


def _pictures(actions: Actions) -> None:
    with gr.Row():
        with gr.Column():
            picture = gr.Image(type="filepath", label="Picture")
            _samples(picture, sorted(SAMPLES.glob("*.png"))[:6])
        with gr.Column():
            caption = gr.Button("Say what it shows", variant="primary")
            dialogue = gr.Chatbot(label="Dialogue", height=260, buttons=["copy_all"])
            question = gr.Textbox(
                label="Question", placeholder="What is on the left?", submit_btn="Ask"
            )
            where = gr.Button("Show where each word of the answer came from")
            words = gr.Gallery(
                label="What was looked at, word by word",
                columns=4,
                height=360,
                object_fit="contain",
            )
    caption.click(actions.caption, [picture, dialogue], dialogue)
    question.submit(actions.ask, [picture, question, dialogue], [dialogue, question])
    where.click(actions.words, [picture, dialogue], words)
    picture.change(lambda: ([], []), None, [dialogue, words])


def _clips(actions: Actions) -> None:
    with gr.Row():
        with gr.Column():
            clip = gr.Video(label="Clip")
            _samples(clip, sorted((SAMPLES / "clips").glob("*.mp4"))[:4])
        with gr.Column():
            question = gr.Textbox(
                label="Question", placeholder="What comes last?", submit_btn="Ask"
            )
            with_sound = gr.Checkbox(label="Listen to its sound, too", value=False)
            answer = gr.Textbox(label="Answer", interactive=False)
            sheet = gr.Image(label="The frames that were seen; orange where the answer looked")
    question.submit(actions.watch, [clip, question, with_sound], [answer, sheet])


def _recordings(actions: Actions) -> None:
    names = [ANY, *sorted(LANGUAGES.values())]
    with gr.Row():
        with gr.Column():
            sound = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Recording")
            _samples(sound, sorted((SAMPLES / "recordings").glob("*.flac"))[:4])
            spoken = gr.Dropdown(names, value=ANY, label="Language that is spoken")
            target = gr.Dropdown(names[1:], value="English", label="Language to translate into")
        with gr.Column():
            with gr.Row():
                transcribe = gr.Button("Write it down", variant="primary")
                translate = gr.Button("Translate it")
            text = gr.Textbox(label="Text", lines=4, interactive=False, buttons=["copy"])
            table = gr.Dataframe(
                headers=["from, s", "to, s", "text"], label="With times", interactive=False
            )
            subtitles = gr.File(label="Subtitles (srt)", interactive=False)
    outputs = [text, table, subtitles]
    transcribe.click(actions.transcribe, [sound, spoken], outputs)
    translate.click(actions.translate, [sound, target], outputs)


def _comparison(actions: Actions) -> None:
    gr.Markdown("Two models answer; which is which is not shown. Say which answer is better.")
    asked = gr.State()
    with gr.Row():
        picture = gr.Image(type="filepath", label="Picture", height=240)
        with gr.Column():
            question = gr.Textbox(label="Question to both", submit_btn="Ask both")
            rating = gr.Radio(list(POINTS), label="Rating", interactive=True)
            keep = gr.Button("Keep the rating", variant="primary")
    with gr.Row():
        left = gr.Textbox(label="Left", interactive=False, lines=3)
        right = gr.Textbox(label="Right", interactive=False, lines=3)
    result = gr.Markdown(actions.tally())
    question.submit(actions.ask_both, [picture, question], [left, right, rating, asked])
    keep.click(actions.rate, [asked, rating], [result, rating, asked])


def _samples(target: gr.components.Component, files: list[Path]) -> None:
    if files:
        gr.Examples([[str(file)] for file in files], inputs=[target], label="Samples")
