"""Where each word of an answer came from, drawn over the picture."""

from PIL import Image

from language.tokenizer import words
from multimodal.assistant import Assistant
from multimodal.attention_map import draw_attention, token_maps
from vision.pictures import Picture, open_picture


def look_by_word(
    assistant: Assistant, picture: Picture, question: str
) -> list[tuple[str, Image.Image]]:
    """Answer a question, and draw for each word of the answer what was looked at.

    Returns:
        The words in order, each with the picture under the weights of the tokens that wrote it.

    Raises:
        InputError: the picture is unusable.
    """
    shown = open_picture(picture)
    said, seen = assistant.answered(shown, question)
    tiles = assistant.model.config.tiles
    assert tiles is not None, "the processor refused the picture"
    if not said:
        return []
    maps = token_maps(assistant.model, seen, num_tokens=len(said))
    drawn, start = [], 0
    for word, end in words(said, assistant.processor.tokenizer):
        drawn.append((word, draw_attention(shown, maps[start:end].mean(dim=0), tiles)))
        start = end
    return drawn
