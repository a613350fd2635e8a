"""Listening pairs: two speakers read the same texts, and whoever listens says which is better.

`python -m multimodal.demo.listening TEXTS.txt --speakers with=DIR without=DIR --out pairs.html`
writes one page with the sound in it, blind: which speaker stands left is drawn for each text and
not shown. The page saves ratings on seven points (paper section 5.3) as the page of `openherd demo`
does, and `python -m multimodal.demo.listening --tally ratings.jsonl` says who was preferred.
"""

import argparse
import base64
import html
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import soundfile

from language.errors import InputError
from multimodal.demo.preferences import POINTS, kept, placed, tally
from speech.speaker import Speaker, load_speaker

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Listening pairs</title>
<style>
 body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto }}
 fieldset {{ border: 1px solid #99a; border-radius: .4rem; margin: 1.5rem 0; padding: 1rem }}
 legend {{ font-weight: 600 }} label {{ display: block }} audio {{ vertical-align: middle }}
 button {{ font: inherit; padding: .5rem 1rem }}
</style>
<h1>Which is read better?</h1>
<p>Listen to both, then choose. Nothing leaves this page but the file that you save.</p>
<form>
{pairs}
<button type="button" id="save">Save the ratings</button> <output id="state"></output>
</form>
<script>
const pairs = {data};
document.getElementById("save").onclick = () => {{
  const lines = pairs.flatMap((pair, i) => {{
    const chosen = document.querySelector(`input[name="p${{i}}"]:checked`);
    if (!chosen) return [];
    const time = new Date().toISOString().slice(0, 19) + "+00:00";
    return [JSON.stringify({{...pair, points: Number(chosen.value), time}}) + "\\n"];
  }});
  document.getElementById("state").textContent = `${{lines.length}} of ${{pairs.length}} rated`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, {{type: "application/jsonl"}}));
  link.download = "ratings.jsonl";
  link.click();
}};
</script></html>
"""


def page(texts: Sequence[str], speakers: Mapping[str, Speaker], *, seed: int = 0) -> str:
    """One HTML file in which two speakers, by name, read texts.

    Raises:
        InputError: there are not two speakers, or a text holds nothing that could be said.
    """
    if len(speakers) != 2:
        raise InputError("speakers", f"want two to compare, not {len(speakers)}")
    first, second = speakers
    rng, pairs, data = random.Random(seed), [], []
    for number, text in enumerate(texts):
        left, right = placed(first, second, rng=rng)
        sounds = [_data_url(speakers[name], text) for name in (left, right)]
        pairs.append(_pair(number, text, sounds))
        data.append(
            {
                "question": text,
                "left": left,
                "right": right,
                "left_answer": "sound",
                "right_answer": "sound",
            }
        )
    listed = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return _PAGE.format(pairs="\n".join(pairs), data=listed)


def _pair(number: int, text: str, sounds: Sequence[str]) -> str:
    players = "".join(
        f'<p><span id="{side}{number}">{side}</span> '
        f'<audio controls preload="none" aria-labelledby="{side}{number}" src="{sound}">'
        "</audio></p>"
        for side, sound in zip(("left", "right"), sounds, strict=True)
    )
    choices = "".join(
        f'<label><input type="radio" name="p{number}" value="{points}"> {name}</label>'
        for name, points in POINTS.items()
    )
    return f"<fieldset><legend>{html.escape(text)}</legend>{players}{choices}</fieldset>"


def _data_url(speaker: Speaker, text: str) -> str:
    sound, file = speaker.speak(text), io.BytesIO()
    soundfile.write(file, sound, speaker.synthesizer.rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()


def _named(words: Sequence[str]) -> dict[str, Speaker]:
    named: dict[str, Speaker] = {}
    for word in words:
        name, found, directory = word.partition("=")
        if not found or not name:
            raise InputError(word, "want NAME=DIRECTORY")
        named[name] = load_speaker(directory)
    return named


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and write the page, or count what was rated."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.demo.listening", description=__doc__
    )
    parser.add_argument("texts", type=Path, nargs="?", help="a text on each line")
    parser.add_argument("--speakers", nargs=2, metavar="NAME=DIR", default=[])
    parser.add_argument("--out", type=Path, default=Path("pairs.html"))
    parser.add_argument("--seed", type=int, default=0, help="decides who stands left")
    parser.add_argument("--tally", type=Path, help="ratings that the page saved")
    options = parser.parse_args(words)
    try:
        if options.tally is not None:
            ratings = kept(options.tally)
            for name in sorted(
                {name for rating in ratings for name in (rating.left, rating.right)}
            ):
                found = tally(ratings, name)
                shares = f"preferred {found.wins:.1%}, tie {found.ties:.1%}"
                rate = f"rate {found.rate:.1%} ({found.low:.1%} to {found.high:.1%})"
                print(f"{name}: {shares}; {rate}, {found.number} ratings")
            return
        if options.texts is None or not options.texts.is_file():
            raise InputError(options.texts or "TEXTS", "no such file of texts")
        lines = options.texts.read_text(encoding="utf-8").splitlines()
        texts = [line.strip() for line in lines if line.strip()]
        options.out.write_text(
            page(texts, _named(options.speakers), seed=options.seed), encoding="utf-8"
        )
        print(f"{len(texts)} pairs in {options.out}")
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
