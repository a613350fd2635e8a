"""The official client talks to the endpoint; what is amiss gets the fitting answer."""

import asyncio
import base64
import io
import socket
import threading
import time

import httpx
import numpy as np
import openai
import pytest
import soundfile
from PIL import Image

from multimodal.locations import TINY

SAMPLES = TINY / "samples"
TALK = SAMPLES / "recordings" / "04.flac"


def data_url(path, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def picture(number: int) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(SAMPLES / f"{number:02d}.png")}}


def user(*parts) -> list[dict]:
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return [{"role": "user", "content": content}]


def ask(client, messages, **more):
    return client.chat.completions.create(model="tiny", messages=messages, **more)


def test_a_picture_is_asked_about(served, assistant):
    client = served.client()
    answer = ask(client, user(picture(1), "What is below?"))
    assert answer.choices[0].message.content == assistant.ask(SAMPLES / "01.png", "What is below?")
    assert answer.choices[0].finish_reason == "stop" and answer.model == "tiny"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 10
    stream = ask(client, user(picture(1), "What is below?"), stream=True,
                 stream_options={"include_usage": True})  # fmt: skip
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == answer.choices[0].message.content
    assert len(chunks) > 3 and chunks[-1].usage.total_tokens == usage.total_tokens
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_clips_recordings_and_dialogues(served, assistant):
    clip = next((SAMPLES / "clips").glob("*.mp4"))
    shown = {"type": "video_url", "video_url": {"url": data_url(clip, "video/mp4")}}
    client = served.client()
    said = ask(client, user(shown, "What comes last?")).choices[0].message.content
    assert said == assistant.ask(clip, "What comes last?")
    heard = {"data": base64.b64encode(TALK.read_bytes()).decode(), "format": "flac"}
    spoken = user({"type": "input_audio", "input_audio": heard})
    ours = [{"role": "user", "content": [{"type": "audio", "audio": TALK}]}]
    assert ask(client, spoken).choices[0].message.content == "".join(assistant.stream(ours))
    turns = [
        *user(picture(1), "What is below?"),
        {"role": "assistant", "content": "A car."},
        {"role": "user", "content": "What is above?"},
    ]
    image = {"type": "image", "image": SAMPLES / "01.png"}
    ours = [{"role": "user", "content": [image, {"type": "text", "text": "What is below?"}]},
            *turns[1:]]  # fmt: skip
    assert ask(client, turns).choices[0].message.content == "".join(assistant.stream(ours))


def test_settings_are_heeded(served):
    client, messages = served.client(), user(picture(2), "What is here?")
    whole = ask(client, messages).choices[0]
    short = ask(client, messages, max_tokens=2)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 2
    assert whole.message.content.startswith(short.choices[0].message.content)
    stop = whole.message.content[2:4]
    assert (
        ask(client, messages, stop=stop).choices[0].message.content
        == (whole.message.content[: whole.message.content.find(stop)])
    )
    drawn = [ask(client, messages, temperature=1.5, seed=s).choices[0].message.content
             for s in (1, 1, 2, 3, 4)]  # fmt: skip
    assert drawn[0] == drawn[1] and len(set(drawn)) > 1


def test_fifty_at_once_are_answered_as_one_by_one(served):
    """None is lost, none mixed up, whether it streams or not."""
    cases = [
        (user(picture(n % 6), q), n % 2 == 1)
        for n in range(25)
        for q in ("What is on the left?", "How many things are there?")
    ]
    client = served.client()
    alone = [ask(client, messages).choices[0].message.content for messages, _ in cases]

    async def everyone() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=f"{served.url}/v1", api_key="any", max_retries=0, timeout=120
        ) as many:

            async def one(messages, streams: bool) -> str:
                answer = await many.chat.completions.create(
                    model="tiny", messages=messages, stream=streams
                )
                if not streams:
                    return answer.choices[0].message.content
                return "".join([c.choices[0].delta.content or "" async for c in answer])

            return await asyncio.gather(*(one(*case) for case in cases))

    assert asyncio.run(everyone()) == alone
    assert len(set(alone)) > 5
    assert served.endpoint.engine.num_running == served.endpoint.engine.num_waiting == 0


def test_recordings_are_written_down_in_all_forms(served, assistant):
    client, true = served.client(), assistant.transcribe(TALK, language="en")
    with TALK.open("rb") as file:
        heard = client.audio.transcriptions.create(model="tiny", file=file, language="en")
    assert heard.text == true.text
    for form in ("text", "srt", "vtt"):
        with TALK.open("rb") as file:
            text = client.audio.transcriptions.create(
                model="tiny", file=file, language="en", response_format=form
            )
        assert true.text in text and ("-->" in text) == (form != "text")
    with TALK.open("rb") as file:
        whole = client.audio.transcriptions.create(
            model="tiny", file=file, response_format="verbose_json"
        )
    assert whole.segments[0].text and whole.duration == pytest.approx(true.duration)
    with TALK.open("rb") as file:
        translated = client.audio.translations.create(model="tiny", file=file)
    assert translated.text == assistant.translate(TALK, to="English").text


def test_models_health_and_measures(served):
    client = served.client()
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "openherd"
    assert httpx.get(f"{served.url}/health").json()["status"] == "ok"
    ask(client, user("Hello"))
    text = httpx.get(f"{served.url}/metrics").text
    line = 'openherd_requests_total{path="/v1/chat/completions",status="200"}'
    assert line in text and 'openherd_tokens_total{kind="answer"}' in text
    assert 'openherd_requests_now{state="running"} 0.0' in text


def test_the_key_is_asked_for(locked):
    with pytest.raises(openai.AuthenticationError, match="wrong or missing API key"):
        ask(locked.client(), user("Hello"))
    with pytest.raises(openai.AuthenticationError):
        locked.client().models.list()
    assert ask(locked.client(api_key="secret"), user("Hello")).choices
    assert httpx.get(f"{locked.url}/health").status_code == 200


def test_files_are_read_of_the_open_folder_alone(served, locked):
    inside, outside = (SAMPLES / "01.png").as_uri(), (TINY / "config.json").as_uri()

    def of(url):
        return user({"type": "image_url", "image_url": {"url": url}}, "What is below?")

    client = locked.client(api_key="secret")
    said = ask(client, of(inside)).choices[0].message.content
    assert said == ask(client, user(picture(1), "What is below?")).choices[0].message.content
    for url in (outside, f"{(SAMPLES / 'x').as_uri()}/../../config.json", "file:///etc/passwd"):
        with pytest.raises(openai.BadRequestError, match="no file of the folder"):
            ask(client, of(url))
    for url in (inside, "http://127.0.0.1:1/a.png", "https://example.com/a.png", "/etc/passwd"):
        with pytest.raises(openai.BadRequestError, match="nothing is fetched"):
            ask(served.client(), of(url))


def bomb() -> str:
    stored = io.BytesIO()
    Image.new("1", (60_000, 60_000)).save(stored, "PNG")
    return "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"messages": []}, "messages must be a list"),
        ({"messages": [{"role": "owl", "content": "hu"}]}, "role must be one of"),
        ({"messages": [{"role": "user", "content": 5}]}, "content must be a text or a list"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "type must be one of"),
        ({"messages": user({"type": "image_url",
                            "image_url": {"url": "data:image/png;base64,%%"}})}, "not base64"),
        ({"messages": user({"type": "image_url", "image_url": {"url": "data:,x"}})},
         "must be data:TYPE;base64,DATA"),
        ({"messages": user({"type": "image_url",
                            "image_url": {"url": "data:image/png;base64,aGVsbG8="}})}, "picture"),
        ({"messages": user({"type": "input_audio",
                            "input_audio": {"data": "aGVsbG8=", "format": "wav"}})}, "recording"),
        ({"messages": user(*[picture(1)] * 4)}, "more than 3 media"),
        ({"messages": user("cup " * 300)}, "leave no room for an answer"),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"temperature": -1}, "temperature must be 0 or more"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more"),
        ({"n": 2}, "n must be 1"),
        ({"stop": ["a"] * 5}, "more than 4 stop texts"),
        ({"stream": "yes"}, "stream must be true or false"),
        ({"tools": [{"type": "function"}]}, "tools is not supported"),
        ({"logprobs": True}, "logprobs is not supported"),
    ],
)  # fmt: skip
def test_unfit_requests_are_told_why(served, change, fault):
    body = {"model": "tiny", "messages": user("Hello"), **change}
    response = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 400
    error = response.json()["error"]
    assert fault in error["message"] and "\n" not in error["message"]
    assert error["type"] == "invalid_request_error"
    assert ask(served.client(), user("Hello")).choices  # and nothing else is disturbed


def test_a_picture_bomb_is_not_unpacked(served):
    with pytest.raises(openai.BadRequestError, match="pixels|large"):
        ask(served.client(), user({"type": "image_url", "image_url": {"url": bomb()}}))


def test_other_models_and_what_is_no_json(served):
    client = served.client()
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4o' here; there is 'tiny'"):
        client.chat.completions.create(model="gpt-4o", messages=user("Hello"))
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")
    for body in (b'{"model": "tiny", "mess', b"[" * 100_000, b"\xff\xfe", b"[]"):
        response = httpx.post(f"{served.url}/v1/chat/completions", content=body)
        assert response.status_code in (400, 404) and response.json()["error"]["message"]


def test_long_bodies_are_cut_short(served):
    url = f"{served.url}/v1/chat/completions"
    told = httpx.Request("POST", url, headers={"content-length": str(1 << 30)})
    host, port = told.url.host, told.url.port
    with socket.create_connection((host, port)) as line:  # says a gigabyte, sends nothing
        line.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Length: {1 << 30}\r\n\r\n".encode()
        )
        assert b" 413 " in line.recv(4096).split(b"\r\n")[0]

    def much():
        for _ in range(9):
            yield b" " * (1 << 20)

    response = httpx.post(url, content=much())  # says nothing, sends much
    assert response.status_code == 413


def test_a_client_that_stalls_is_let_go(served):
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
            "Content-Length: 100\r\n\r\n{".encode()
        )
        line.settimeout(10)
        begun = time.monotonic()
        assert b" 408 " in line.recv(4096).split(b"\r\n")[0]
        assert time.monotonic() - begun >= 0.9
    assert ask(served.client(), user("Hello")).choices


def test_sound_that_is_too_long_or_none(served):
    stored = io.BytesIO()
    soundfile.write(stored, np.tile(0.1 * np.sin(np.arange(16_000) / 9), 120), 16_000,
                    format="OGG", subtype="OPUS")  # fmt: skip
    client = served.client()
    with pytest.raises(openai.APIStatusError, match="longer than 20 seconds") as caught:
        client.audio.transcriptions.create(
            model="tiny", file=("long.ogg", stored.getvalue()), language="en"
        )
    assert caught.value.status_code == 413
    with pytest.raises(openai.BadRequestError):
        client.audio.transcriptions.create(model="tiny", file=("a.wav", b"no sound"))
    with pytest.raises(openai.BadRequestError, match="response_format must be one of"):
        client.audio.transcriptions.create(
            model="tiny", file=("a.wav", b"x"), response_format="pdf"
        )
    response = httpx.post(f"{served.url}/v1/audio/transcriptions", data={"model": "tiny"})
    assert response.status_code == 400 and "file must be" in response.json()["error"]["message"]


def test_a_full_queue_says_so_and_who_leaves_makes_room(narrow, monkeypatch):
    """One row, one place to wait: a third request is sent away; two leave, a fourth is let in."""
    engine, step = narrow.endpoint.engine, narrow.endpoint.engine._slots.step

    def slow(tokens):
        time.sleep(0.05)
        return step(tokens)

    monkeypatch.setattr(engine._slots, "step", slow)
    settings = narrow.endpoint.assistant.generation
    endless = {**vars(settings), "stop_ids": (), "max_loop": 0, "max_new_tokens": 200}
    monkeypatch.setattr(narrow.endpoint.assistant, "generation", type(settings)(**endless))
    body = {"model": "tiny", "messages": user("Hello"), "stream": True, "max_tokens": 200}
    url = f"{narrow.url}/v1/chat/completions"
    stop = threading.Event()

    def wait() -> None:
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            for _ in response.iter_lines():
                if stop.is_set():
                    return  # and hang up

    threads = []
    for running, waiting in ((1, 0), (1, 1)):
        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        begun = time.monotonic()
        while (engine.num_running, engine.num_waiting) != (running, waiting):
            assert time.monotonic() - begun < 20
            time.sleep(0.01)
    with pytest.raises(openai.RateLimitError, match="try later"):
        ask(narrow.client(), user("Hello"))
    stop.set()
    for thread in threads:
        thread.join(20)
    monkeypatch.setattr(narrow.endpoint.assistant, "generation", settings)
    assert ask(narrow.client(), user("Hello")).choices
    begun = time.monotonic()
    while engine.num_running:
        assert time.monotonic() - begun < 20
        time.sleep(0.01)


def test_bad_usage_is_one_line(capsys):
    from multimodal.cli import main

    for words, fault in (
        (["--rows", "0"], "--rows: must be 1 or more"),
        (["--files", "nowhere"], "nowhere: no such folder"),
        (["--model", "nowhere", "--port", "0"], "nowhere"),
        (["--port", "99999"], "127.0.0.1:99999: cannot listen there"),
    ):
        assert main(["serve", *words]) == 2
        said = capsys.readouterr().err
        assert fault in said and said.count("\n") == 1
