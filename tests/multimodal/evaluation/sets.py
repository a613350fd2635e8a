"""Made-up sets in the layouts in which benchmarks are published, answers to them, and their scores.

Each entry of ``SETS`` writes a folder; ``ANSWERS`` are what a model says to each sample, and
``VALUES`` what the metric of that is, computed by hand in the comments.
"""

import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

TEN = ["red"] * 3 + ["Red."] * 1 + ["blue"] * 6


def picture(path: Path, shade: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 32), (shade, 120, 60)).save(path)


def sound(path: Path) -> None:
    """Each name sounds differently."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pitch = 9 + zlib.crc32(path.name.encode()) % 100
    soundfile.write(path, 0.1 * np.sin(np.arange(8000) / pitch).astype(np.float32), 16_000)


def pack(folder: Path) -> None:
    """Put a folder of recordings into an archive beside it, the last one first."""
    with tarfile.open(folder.with_suffix(".tar.gz"), "w:gz") as archive:
        for file in sorted(folder.iterdir(), reverse=True):
            archive.add(file, f"{folder.name}/{file.name}")
    shutil.rmtree(folder)


def film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not opened here")


def write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


def vqav2(folder: Path) -> None:
    picture(folder / "val2014" / "COCO_val2014_000000000042.jpg")
    asked = [
        {"image_id": 42, "question": "What colour?", "question_id": 420},
        {"image_id": 42, "question": "How many?", "question_id": 421},
    ]
    write(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": asked})
    answers = [
        {"question_id": 420, "answer_type": "other", "answers": [{"answer": a} for a in TEN]},
        {"question_id": 421, "answer_type": "number",
         "answers": [{"answer": a} for a in ["2"] * 9 + ["two"]]},
    ]  # fmt: skip
    write(folder / "v2_mscoco_val2014_annotations.json", {"annotations": answers})


def textvqa(folder: Path) -> None:
    picture(folder / "train_images" / "ab12.jpg")
    record = {"question": "what is written?", "question_id": 7, "image_id": "ab12",
              "answers": ["stop"] * 2 + ["shop"] * 8}  # fmt: skip
    write(folder / "TextVQA_0.5.1_val.json", {"data": [record]})
    tokens = {"image_id": "ab12", "ocr_tokens": ["STOP", "here"]}
    write(folder / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": [tokens]})


def docvqa(folder: Path) -> None:
    picture(folder / "documents" / "a_1.png")
    data = [
        {"questionId": 1, "question": "Who signed?", "image": "documents/a_1.png",
         "answers": ["Jane Doe", "J. Doe"]},
        {"questionId": 2, "question": "When?", "image": "documents/a_1.png",
         "answers": ["1999"]},
    ]  # fmt: skip
    write(folder / "val_v1.0_withQT.json", {"data": data})


def chartqa(folder: Path) -> None:
    picture(folder / "test" / "png" / "1.png")
    human = [{"imgname": "1.png", "query": "How much?", "label": "40"},
             {"imgname": "1.png", "query": "Which?", "label": "Spain"}]  # fmt: skip
    write(folder / "test" / "test_human.json", human)
    augmented = [{"imgname": "1.png", "query": "Share?", "label": "5%"}]
    write(folder / "test" / "test_augmented.json", augmented)


def ai2d(folder: Path) -> None:
    write(folder / "ai2d_test_ids.csv", "3\n")
    picture(folder / "images" / "3.png")
    picture(folder / "abc_images" / "3.png")
    questions = {
        "What eats grass?": {"abcLabel": False, "answerTexts": ["fox", "hare", "owl"],
                             "correctAnswer": 1, "questionId": "3.png-0"},
        "Which letter is the sun?": {"abcLabel": True, "answerTexts": ["D", "E"],
                                     "correctAnswer": 0, "questionId": "3.png-1"},
    }  # fmt: skip
    write(folder / "questions" / "3.png.json", {"imageName": "3.png", "questions": questions})


def mmmu(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    stored = io.BytesIO()
    Image.new("RGB", (20, 20), (9, 9, 9)).save(stored, "PNG")
    shown = {"bytes": stored.getvalue(), "path": "1.png"}
    rows = [
        {"id": "validation_Art_1", "question": "Look at <image 1>. Which?",
         "options": "['oil', 'ink']", "answer": "B", "question_type": "multiple-choice",
         "image_1": shown},
        {"id": "validation_Art_2", "question": "<image 1> How wide?", "options": "[]",
         "answer": "3.5", "question_type": "open", "image_1": shown},
    ]  # fmt: skip
    (folder / "Art").mkdir(parents=True)
    file = folder / "Art" / "validation-00000-of-00001.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def perceptiontest(folder: Path) -> None:
    film(folder / "videos" / "video_10.mp4")
    question = {"id": 0, "question": "Was it moved?", "options": ["yes", "no", "unclear"],
                "answer_id": 2, "area": "physics", "reasoning": "descriptive"}  # fmt: skip
    write(folder / "all_valid.json", {"video_10": {"metadata": {}, "mc_question": [question]}})


def nextqa_mc(folder: Path) -> None:
    film(folder / "NExTVideo" / "1164" / "77.mp4")
    write(folder / "map_vid_vidorID.json", {"77": "1164/77"})
    head = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    write(folder / "test.csv", head + "77,9,4,4,why did he stop,1,5,CW,cold,tired,hot,old,late\n")


def nextqa(folder: Path) -> None:
    film(folder / "NExTVideo" / "1164" / "77.mp4")
    write(folder / "map_vid_vidorID.json", {"77": "1164/77"})
    head = "video,frame_count,width,height,question,answer,qid,type,additional_ref_answer\n"
    rows = ["77,9,4,4,what does he pet,dog,5,DO,\n", "77,9,4,4,how many,two,6,DC,\n"]
    write(folder / "test.csv", head + "".join(rows))


def tvqa(folder: Path) -> None:
    film(folder / "videos" / "s01_clip.mp4")
    record = {"qid": 11, "q": "Who came in?", "answer_idx": 4, "show_name": "Castle",
              "vid_name": "s01_clip", "ts": "0-3", "a0": "Ann", "a1": "Bob", "a2": "Cid",
              "a3": "Dot", "a4": "Eve"}  # fmt: skip
    write(folder / "tvqa_val.jsonl", json.dumps(record) + "\n")
    said = {"vid_name": "s01_clip", "sub": [{"text": "Hello {Eve}.", "start": 0, "end": 1}]}
    write(folder / "tvqa_preprocessed_subtitles.jsonl", json.dumps(said) + "\n")


def activitynetqa(folder: Path) -> None:
    film(folder / "videos" / "v_abc.mkv")
    asked = [{"video_name": "abc", "question": "is it outdoors", "question_id": "v_abc_1"}]
    write(folder / "test_q.json", asked)
    write(folder / "test_a.json", [{"answer": "yes", "type": 3, "question_id": "v_abc_1"}])


def librispeech(folder: Path) -> None:
    chapter = folder / "LibriSpeech" / "test-other" / "19" / "198"
    for number in (0, 1):
        sound(chapter / f"19-198-000{number}.flac")
    write(chapter / "19-198.trans.txt", "19-198-0000 THE CAT SAT\n19-198-0001 ON A RED MAT\n")


def mls(folder: Path) -> None:
    top = folder / "mls_german" / "test"
    sound(top / "audio" / "1" / "2" / "1_2_000003.flac")
    write(top / "transcripts.txt", "1_2_000003\tder alte mann schläft\n")


def voxpopuli(folder: Path) -> None:
    top = folder / "transcribed_data" / "en"
    sound(top / "2019" / "20190114-0900-x.ogg")
    head = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\n"
    write(top / "asr_test.tsv", head + '20190114-0900-x\tMr "President", thank you.\tmr\t1\ttest\n')


def fleurs(folder: Path) -> None:
    for code, text in (("en_us", "A small house."), ("hi_in", "यह किताब है")):
        top = folder / "data" / code
        sound(top / "audio" / "test" / f"{code}1.wav")
        write(top / "test.tsv", f"12\t{code}1.wav\t{text}\t{text.lower()}\tx\t8000\tMALE\n")


def covost2(folder: Path) -> None:
    sound(folder / "clips" / "common_voice_fr_1.mp3")
    head = "path\ttranslation\tsplit\n"
    line = 'common_voice_fr_1.mp3\t"the small house is on the hill"\ttest\n'
    write(folder / "covost_v2.fr_en.test.tsv", head + line)


def mutox(folder: Path) -> None:
    head = ("id", "lang", "partition", "public_url_segment", "audio_file_transcript",
            "contains_toxicity", "label")  # fmt: skip
    rows = [
        ("e1", "eng", "devtest", "hello there", "No"),
        ("e2", "eng", "devtest", "damn it", "Yes"),
        ("e3", "eng", "devtest", '"""well"" he said"', "No"),
        ("e4", "eng", "train", "a", "No"),
        ("e5", "eng", "devtest", "hm", "Cannot say"),
        ("s1", "spa", "devtest", "hola", "No"),
        ("e6", "eng", "devtest", "gone", "Yes"),
    ]
    lines = ["\t".join(head)]
    for key, language, part, text, is_toxic in rows:
        lines.append(
            "\t".join((key, language, part, f"http://x/{key}.mp3:0:9", text, is_toxic, "0"))
        )
        if key != "e6":  # whose address has rotten
            sound(folder / "audio" / f"{key}.{'mp3' if key == 'e2' else 'wav'}")
    write(folder / "mutox.tsv", "\n".join(lines) + "\n")


SETS: dict[str, tuple[Callable[[Path], None], dict[str, str], dict[str, str], float]] = {
    # "red" by 4 of ten: a point; "2" by nine, and the tenth's "two" is "2", too.
    "vqav2": (vqav2, {}, {"420": "Red", "421": "three"}, 50.0),
    # 2 of ten: 0.6
    "textvqa": (textvqa, {}, {"7": "Stop,"}, 60.0),
    # one of 8 signs differs: 0.875; two of four: 0.5 is kept
    "docvqa": (docvqa, {}, {"1": "jane  dot", "2": "1988"}, 68.75),
    # 38 is 5 % off 40, and right; another name; 5% is 0.05
    "chartqa": (chartqa, {}, {"human-0": "38", "human-1": "France", "augmented-0": "0.05"},
                200 / 3),
    "ai2d": (ai2d, {}, {"3.png-0": "B. hare", "3.png-1": "E"}, 50.0),
    "mmmu": (mmmu, {}, {"validation_Art_1": "I do not know", "validation_Art_2": "It is 3.50"},
             50.0),
    "perceptiontest": (perceptiontest, {}, {"video_10-0": "unclear"}, 100.0),
    "nextqa_mc": (nextqa_mc, {}, {"77-5": "(B)"}, 100.0),
    "tvqa": (tvqa, {}, {"11": "A"}, 0.0),
    "activitynetqa": (activitynetqa, {}, {"v_abc_1": "Yes."}, 100.0),
    # one word of 3 wrong, one of 4: 2 errors of 7 words
    "librispeech": (librispeech, {}, {"19-198-0000": "the bat sat",
                                      "19-198-0001": "on a red old"}, 200 / 7),
    "mls": (mls, {"language": "de"}, {"1_2_000003": "Der alte Mann schlaft."}, 25.0),
    "voxpopuli": (voxpopuli, {}, {"20190114-0900-x": "mister president thank you"}, 0.0),
    # a vowel sign is a letter of the word: one of three words is wrong
    "fleurs": (fleurs, {"language": "hi_in"}, {"hi_in1": "यह कताब है"}, 100 / 3),
    "fleurs_translation": (fleurs, {"language": "hi_in"}, {"hi_in1": "A small house."}, 100.0),
    # all n-grams are right, and a word is missing: e^(1 - 7/6)
    "covost2": (covost2, {}, {"common_voice_fr_1": "the small house is on the"}, 84.6481724890614),
}  # fmt: skip
"""By benchmark: what writes the set, settings, answers by sample, and their score."""
