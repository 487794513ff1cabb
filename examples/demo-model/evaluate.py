"""Measure the demo model on held-out pictures, and write golden.json and training-record.json."""
from __future__ import annotations

import json
import platform
from importlib.metadata import version

import numpy as np
import torch
from PIL import Image

import language
import train
from scenes import Scene, digit_split, render, shrink

HELDOUT = 400  # held-out pictures; every kind of question is asked about each picture it applies to
PICTURES = [  # file name, what it shows, size
    ("three-red-circles", Scene("circle", "red", "white", 3), (320, 180)),
    ("one-yellow-square", Scene("square", "yellow", "black", 1), (128, 128)),
    ("four-green-triangles", Scene("triangle", "green", "white", 4), (240, 180)),
    ("four-purple-circles", Scene("circle", "purple", "yellow", 4), (200, 150)),
    ("two-orange-triangles", Scene("triangle", "orange", "black", 2), (256, 144)),
    ("digit-seven", Scene("digit", "blue", "white", 1, 7), (96, 96)),
    ("digit-three", Scene("digit", "white", "black", 1, 3), (160, 120)),
    ("digit-four", Scene("digit", "red", "white", 1, 4), (128, 128)),
    ("two-blue-squares-1920x1080", Scene("square", "blue", "white", 2), (1920, 1080)),
]
FIRST_SEED = {"digit-seven": 911}  # earlier drawings of it are hard to read for people
LONG = ("Hello again. Yesterday our team made a report about the new garden and sent it to the office, but nobody read "
        "page 27 very carefully. The weather was good, the coffee was not. Please note my new address for the next "
        "letter. Now, ")
LONG_KO = "안녕하세요. 어제 우리 팀은 새로운 보고서를 만들었습니다. 그리고 오늘 아침 회의에서 다시 확인했습니다. 커피는 좋았습니다. 질문입니다. "


# ---------------------------------------------------------------- accuracy
@torch.no_grad()
def exact(model, tokenizer, items, size=50):
    """For (messages, picture or None): is the greedy answer exactly the last message?

    One pass over prompt and right answer tells: greedy decoding gives that answer if and only if every
    token of it, the end token included, is the most likely one after the right tokens before it.
    """
    order = sorted(range(len(items)), key=lambda i: len(str(items[i][0])))
    result = {}
    for start in range(0, len(items), size):
        part = [items[i] for i in order[start:start + size]]
        rows = [train.encode(tokenizer, messages) for messages, _ in part]
        ids, labels = train.pad(rows)
        pictures = [p for _, p in part if p is not None]
        features = train.picture_features(model, train.to_pixels(np.stack(pictures))) if pictures else None
        logits, _ = train.answer_logits(model, ids, labels, features)
        hit = torch.ones_like(labels[:, 1:], dtype=torch.bool)
        at = labels[:, 1:] != -100
        hit[at] = logits.argmax(-1) == labels[:, 1:][at]
        for i, ok in zip(order[start:start + size], hit.all(1).tolist()):
            result[i] = ok
    return [result[i] for i in range(len(items))]


def turn(question, reply, picture=True, system=None):
    """The messages of one question and its answer, after a system message or none."""
    content = [{"type": "image"}, {"type": "text", "text": question}] if picture else question
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": reply}]
    return [{"role": "system", "content": system}] * bool(system) + messages


def score(model, tokenizer, heldout, lang, system=None):
    """Exact answers on held-out pictures: {name: [right, total]}."""
    rng, (scenes, pictures, _) = np.random.default_rng(44), heldout
    rows = {}

    def add(name, message, picture):
        rows.setdefault(name, []).append((message, picture))

    for scene, picture in zip(scenes, pictures):
        for kind in language.KINDS_OF_QUESTION:
            applies = {"digit": scene.kind == "digit", "count": scene.kind != "digit"}.get(kind, True)
            if not applies or (kind == "other" and rng.random() < 0.5):
                continue
            asked_in = "ko" if lang == "ko" and rng.random() < 0.5 else "en"
            reply = language.answer(kind, scene, lang)
            name = kind + (" of shapes" if scene.kind != "digit" else " of digits") if kind == "caption" else kind
            add(name, turn(language.ask(rng, kind, asked_in), reply, system=system), picture)
        kind = language.KINDS_OF_QUESTION[rng.integers(len(language.KINDS_OF_QUESTION))]
        reply = language.answer(kind, scene, lang)
        if rng.random() < 0.5:
            question = language.ask(rng, kind, str(rng.choice(["en", "ko"])), 1.0)
            add("after a long preamble", turn(question, reply, system=system), picture)
        elif lang == "en":
            add("asked in Korean", turn(language.ask(rng, kind, "ko"), reply), picture)
    for _ in range(200):
        question, reply = language.talk(rng, lang)
        add("no picture", turn(question, reply, False, system), None)
    names = list(rows)
    right = iter(exact(model, tokenizer, [item for name in names for item in rows[name]]))
    result = {name: [sum(next(right) for _ in rows[name]), len(rows[name])] for name in names}
    for name, (good, total) in result.items():
        print(f"{lang}{' (system message)' if system else ''} {name}: {good}/{total} = {good / total:.1%}", flush=True)
    return result


# ---------------------------------------------------------------- records
def write_record(out, args, log, scores):
    """training-record.json: how the model came about and how good it is."""
    size = {f"{d}/{f.name}": f.stat().st_size for d in ("checkpoint", "ko-lora") for f in sorted((out / d).iterdir())}
    record = {
        "versions": {"python": platform.python_version(),
                     **{p: version(p) for p in ("torch", "transformers", "tokenizers", "peft", "safetensors",
                                                "scikit-learn", "numpy", "pillow")}},
        "settings": {k: v for k, v in args.items() if isinstance(v, int)},
        "seeds": {"model": 0, "tokenizer": 1, "training pictures": 1, "held-out pictures": 2, "vision": 11, "english": 22,
                  "bilingual": 44, "korean": 33, "evaluation": 44},
        "stages": log,
        "heldout_exact": {lang: {name: {"right": a, "total": b} for name, (a, b) in rows.items()}
                          for lang, rows in scores.items()},
        "bytes": size,
    }
    text = json.dumps(record, indent=1)
    (out / "training-record.json").write_text(text + "\n")


def questions_about(scene):
    """Golden questions for a picture: (kind, text)."""
    rows = [("caption", "What is in the image?"), ("colour", "What color is it?"), ("json", "Describe the image as JSON.")]
    if scene.kind == "digit":
        rows += [("digit", "Which digit is this?"), ("parity", "Is it odd or even?"), ("digit", "어떤 숫자입니까?")]
    else:
        rows += [("count", "How many are there?"), ("shape", "What shape is it?"), ("count", "몇 개입니까?")]
    return rows + [("caption", "이미지를 설명해 주세요.")]


def choose_pictures(model, adapted, tokenizer, folder):
    """Draw each golden picture with the first of 60 seeds that gets all its golden questions right (or most)."""
    folder.mkdir(exist_ok=True)
    digits, chosen = digit_split()["heldout"], []
    for name, scene, size in PICTURES:
        extra = [("caption", LONG + "what is in the image?"), ("caption", LONG_KO + "이미지를 설명해 주세요.")]
        questions = questions_about(scene) + (extra if name in ("three-red-circles", "digit-seven") else [])
        best = (-1, None)
        first = FIRST_SEED.get(name, 900)
        for seed in range(first, first + 60):
            image, _ = render(np.random.default_rng(seed), scene, size, digits, rough=False)
            picture = shrink(image)

            def wrong_answers(lang):
                items = [(turn(q, language.answer(k, scene, lang)), picture) for k, q in questions]
                hits = exact(model, tokenizer, items)
                musts = ("caption", "json") if lang == "en" else ("caption",)  # descriptions count for more than the rest
                return sum(100 if k in musts else 1 for (k, _), hit in zip(questions, hits) if not hit)

            wrong = wrong_answers("ko")
            with adapted.disable_adapter():
                wrong += wrong_answers("en")
            if best[1] is None or wrong < best[0]:
                best = (wrong, image)
            if wrong == 0:
                break
        print(name, "all answers right" if best[0] == 0 else f"wrong answers: {best[0]}", "after seed", seed, flush=True)
        best[1].save(folder / f"{name}.png", optimize=True)
        chosen.append((name, scene, size, questions))
    return chosen


@torch.no_grad()
def reply(model, tokenizer, prompt_ids, pixels):
    """The greedy answer of a model loaded by transformers, and its first five logits."""
    ids = torch.tensor([prompt_ids])
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    if pixels is not None:
        inputs["pixel_values"] = pixels
    top = model(**inputs).logits[0, -1].topk(5)
    new = model.generate(**inputs, do_sample=False, max_new_tokens=80)[0, len(prompt_ids):].tolist()
    return {"answer": tokenizer.decode(new, skip_special_tokens=True), "ids": new,
            "top5": [[i, round(v, 5)] for i, v in zip(top.indices.tolist(), top.values.tolist())]}


def write_golden(out):
    """golden.json and pictures/, from the files just written (read back from disk, f32, greedy)."""
    from peft import PeftModel
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(out / "checkpoint")
    model = LlavaForConditionalGeneration.from_pretrained(out / "checkpoint", dtype=torch.float32).eval()
    adapted = PeftModel.from_pretrained(model, out / "ko-lora").eval()
    cases, pictures = [], []
    for name, scene, size, questions in choose_pictures(model, adapted, tokenizer, out / "pictures"):
        file = f"pictures/{name}.png"
        pixels = train.to_pixels(shrink(Image.open(out / file))[None])
        pictures.append({"file": file, "width": size[0], "height": size[1],
                         "pixel_means": [round(v, 5) for v in pixels[0].mean((1, 2)).tolist()]})
        cases += [(file, turn(q, "")[:1], pixels, (k, scene, "en")) for k, q in questions]
        if name in ("three-red-circles", "digit-seven"):
            told = turn("What is in the image?", "", system=language.IN_KOREAN)[:-1]
            cases.append((file, told, pixels, ("caption", scene, "ko")))
    cases += [(None, turn(q, "", False)[:1], None, None) for q in ("Hello!", "Who are you?", "What is in the image?")]
    entries = []
    for file, messages, pixels, expected in cases:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = []
        for token in tokenizer(prompt, add_special_tokens=False).input_ids:
            ids += [train.IMAGE] * train.IMAGE_TOKENS if token == train.IMAGE else [token]
        korean = reply(adapted, tokenizer, ids, pixels)
        with adapted.disable_adapter():
            base = reply(adapted, tokenizer, ids, pixels)
        if expected:
            kind, scene, lang = expected
            right = language.answer(kind, scene, lang), language.answer(kind, scene, "ko")
            if (base["answer"], korean["answer"]) != right:
                print("not the expected answer:", file, messages[-1], base["answer"], korean["answer"])
        entries.append({"picture": file, "messages": messages, "prompt": prompt, "prompt_ids": ids, "base": base,
                        "ko_lora": korean})
    lines = ",\n".join("  " + json.dumps(e, ensure_ascii=False) for e in entries)
    head = ",\n".join("  " + json.dumps(p) for p in pictures)
    (out / "golden.json").write_text(f'{{"pictures": [\n{head}\n],\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
