#!/usr/bin/env python3
"""Train the demo model: a tiny LLaVA that reads simple pictures, and a LoRA that makes it speak Korean.

    python train.py                     # everything, into this folder

Stages: draw the pictures; teach the vision tower alone (plain classifiers on its features); teach the
language model English answers; teach everything English answers, and Korean ones where the system message
asks for them; teach the adapter to answer in Korean without being asked; evaluate and write the records.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread that spins takes the core the other one needs

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration,
                          PreTrainedTokenizerFast)

import evaluate
import language
from scenes import COLOURS, GROUNDS, KINDS, SIDE, make_pool

PATCH = 8
IMAGE_TOKENS = (SIDE // PATCH) ** 2
VOCABULARY = 1024
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
PAD, START, END, IMAGE = range(4)
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- else -%}{{- '<image>' -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


# ---------------------------------------------------------------- the pieces
def make_tokenizer(seed):
    """Byte-level BPE over both languages, with the chat template attached."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    bpe.train_from_iterator(language.corpus(np.random.default_rng(seed)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=SPECIALS[START], eos_token=SPECIALS[END],
                                   pad_token=SPECIALS[PAD], chat_template=CHAT_TEMPLATE, model_max_length=2048,
                                   clean_up_tokenization_spaces=False)


def make_model(vocabulary):
    """The untrained model.  Features come from the last layer but one, without the class token."""
    vision = CLIPVisionConfig(hidden_size=96, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4,
                              image_size=SIDE, patch_size=PATCH, projection_dim=96, initializer_range=0.04)
    text = LlamaConfig(vocab_size=vocabulary, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
                       num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
                       bos_token_id=START, eos_token_id=END, pad_token_id=PAD, initializer_range=0.04,
                       tie_word_embeddings=False)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-2,
                         vision_feature_select_strategy="default", image_seq_length=IMAGE_TOKENS,
                         projector_hidden_act="gelu", tie_word_embeddings=False)
    model = LlavaForConditionalGeneration(config).float()
    torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embedding.weight, std=0.3)
    return model


def to_pixels(pictures):
    """uint8 [n, 64, 64, 3] to float [n, 3, 64, 64] in -1..1, as preprocessor_config.json says."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def embed(model, ids, features=None):
    """Token embeddings with the image tokens replaced by picture features."""
    x = model.get_input_embeddings()(ids)
    if features is not None and len(features):
        mask = (ids == IMAGE).unsqueeze(-1)
        x = x.masked_scatter(mask, features.reshape(-1, x.shape[-1]).to(x.dtype))
    return x


def patches(tower, pixels):
    """hidden_states[-2] without the class token; the last layer, which nobody reads, is not run."""
    x = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        x = layer(x, attention_mask=None)
        x = x[0] if isinstance(x, tuple) else x
    return x[:, 1:]


def picture_features(model, pixels):
    """What the language model sees of pictures: [n, 64, hidden]."""
    return model.model.multi_modal_projector(patches(model.model.vision_tower, pixels))


def answer_logits(model, ids, labels, features, **more):
    """Logits at, and targets of, the positions that predict an answer token (padding is on the right)."""
    x = embed(model, ids, features)
    hidden = model.model.language_model(inputs_embeds=x, use_cache=False, **more).last_hidden_state
    at = labels[:, 1:] != -100
    return model.lm_head(hidden[:, :-1][at]), labels[:, 1:][at]


# ---------------------------------------------------------------- conversations
def system_turn(rng, told, noise=0.2):
    """No system message, any, or (`told`) the one that asks for Korean, as a list of messages."""
    parts = []
    if rng.random() < 0.2:
        parts.append(str(rng.choice(language.SYSTEMS)))
        if rng.random() < noise:
            parts.append(language.noise_text(rng, str(rng.choice(["en", "ko"])), 100))
    if told:
        parts.append(language.IN_KOREAN)
    return [{"role": "system", "content": " ".join(parts)}] if parts else []


def question_kind(rng, scene):
    """A kind of question, captions and counts most often."""
    weights = (3, 1.5, 1, 0.5, 2.5, 1.2, 0.8, 2, 1) if scene.kind == "digit" else (3, 1.5, 1, 3, 0.4, 1.2, 0.8, 2, 1)
    return language.KINDS_OF_QUESTION[rng.choice(len(weights), p=np.array(weights) / sum(weights))]


def random_question(rng, scene, lang, noisy):
    """A question that fits a scene: (kind, text)."""
    kind = question_kind(rng, scene)
    asked_in = "ko" if rng.random() < (0.5 if lang == "ko" else 0.25) else "en"
    if kind == "other" and rng.random() < 0.3:
        return kind, language.noise_text(rng, asked_in, 200 if noisy else 40)
    return kind, language.ask(rng, kind, asked_in, noisy)


def conversation(rng, scene, lang, turns, noisy, told):
    """Messages about a scene (or, where scene is None, without one), the answers included."""
    messages = system_turn(rng, told)
    if scene is None or rng.random() < 0.08:
        question, reply = language.talk(rng, lang, noisy)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    if scene is None:
        return messages
    for turn in range(turns):
        kind, question = random_question(rng, scene, lang, noisy)
        content = question
        if turn == 0:
            content = [{"type": "image"}, {"type": "text", "text": question}]
            dice = rng.random()
            if dice < 0.25:
                content.reverse()
            elif dice < 0.35:
                content[1]["text"] = "\n" + question
        messages += [{"role": "user", "content": content},
                     {"role": "assistant", "content": language.answer(kind, scene, lang)}]
    return messages


def encode(tokenizer, messages):
    """Token ids of a conversation, the image expanded, and labels that cover the answers only."""
    ids, labels = [], []
    for message in messages:
        text = tokenizer.apply_chat_template([message], tokenize=False)
        if message["role"] == "assistant":
            head = "<|im_start|>assistant\n"
            parts = [(head, False), (text[len(head):-1], True), ("\n", False)]
        else:
            parts = [(text, False)]
        for part, learn in parts:
            tokens = []
            for token in tokenizer(part, add_special_tokens=False).input_ids:
                tokens += [IMAGE] * IMAGE_TOKENS if token == IMAGE else [token]
            ids += tokens
            labels += tokens if learn else [-100] * len(tokens)
    return ids, labels


def pad(rows):
    """Right-pad (ids, labels) pairs into two tensors."""
    width = max(len(i) for i, _ in rows)
    ids = torch.tensor([i + [PAD] * (width - len(i)) for i, _ in rows])
    return ids, torch.tensor([y + [-100] * (width - len(y)) for _, y in rows])


def text_batch(rng, tokenizer, scenes, size, mode):
    """Tokens of a batch of conversations of similar length, and the numbers of the scenes they are about."""
    dice = rng.random()
    turns, noisy, size = (1, 1.0, size // 2) if dice < 0.3 else (3, 0.0, size // 2) if dice < 0.5 else (1, 0.0, size)
    rows, used = [], []
    for _ in range(size):
        lang, told = mode(rng)
        if rng.random() < 0.1:
            rows.append(encode(tokenizer, conversation(rng, None, lang, 0, noisy * 0.5, told)))
            continue
        used.append(int(rng.integers(len(scenes))))
        rows.append(encode(tokenizer, conversation(rng, scenes[used[-1]], lang, turns, noisy, told)))
    return *pad(rows), used


def fan_batch(rng, tokenizer, scenes, size, mode, questions=3):
    """Like text_batch, but several questions share one picture without seeing one another.

    Comes back with positions and an attention mask as well: every question is its own continuation of the
    picture, which costs much less than reading the picture again for each."""
    rows, used = [], []
    for _ in range(size):
        lang, told = mode(rng)
        used.append(int(rng.integers(len(scenes))))
        first = system_turn(rng, told, 0) + [{"role": "user", "content": [{"type": "image"}]}]
        ids, _ = encode(tokenizer, first)
        ids = ids[:-len(tokenizer("<|im_end|>\n", add_special_tokens=False).input_ids)]
        labels, branch, place = [-100] * len(ids), [0] * len(ids), list(range(len(ids)))
        stem = len(ids)
        for number in range(1, questions + 1):
            kind, question = random_question(rng, scenes[used[-1]], lang, 0.0)
            before = ("\n" if rng.random() < 0.12 else "") + question + "<|im_end|>\n<|im_start|>assistant\n"
            before = tokenizer(before, add_special_tokens=False).input_ids
            after = language.answer(kind, scenes[used[-1]], lang) + "<|im_end|>"
            after = tokenizer(after, add_special_tokens=False).input_ids
            ids += before + after
            labels += [-100] * len(before) + after
            branch += [number] * (len(before) + len(after))
            place += range(stem, stem + len(before) + len(after))
        rows.append((ids, labels, branch, place))
    ids, labels = pad([r[:2] for r in rows])
    branch, place = pad([(r[3], r[2]) for r in rows])[::-1]
    same = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    mask = (same & torch.ones(same.shape[-2:], dtype=torch.bool).tril()).unsqueeze(1)
    return ids, labels, used, {"position_ids": place, "attention_mask": mask}


def batch(rng, tokenizer, scenes, size, mode):
    """One of the two kinds of batches: (ids, labels, scenes used, further arguments of answer_logits)."""
    if rng.random() < 0.65:
        return fan_batch(rng, tokenizer, scenes, size, mode)
    return *text_batch(rng, tokenizer, scenes, size, mode), {}


def english(_):
    return "en", False


def bilingual(rng):
    """English, but Korean where the system message asks for it."""
    korean = rng.random() < 0.35
    return ("ko", True) if korean else ("en", False)


def korean(rng):
    """Korean always."""
    return "ko", rng.random() < 0.1


# ---------------------------------------------------------------- training
def run(name, parameter_groups, steps, loss_of_step, log):
    """AdamW with a one-cycle schedule; writes a sparse loss curve into `log`."""
    optimizer = torch.optim.AdamW(parameter_groups, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [g["lr"] for g in parameter_groups], total_steps=steps,
                                                   pct_start=0.08)
    parameters = [p for g in parameter_groups for p in g["params"]]
    start, curve, recent = time.time(), [], []
    for step in range(steps):
        loss = loss_of_step(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 50 == 49 or step == steps - 1 or step == 4:
            curve.append([step + 1, round(float(np.mean(recent)), 4)])
            recent = []
            print(f"{name} {step + 1}/{steps} loss {curve[-1][1]:.4f} {time.time() - start:.0f}s", flush=True)
    log[name] = {"steps": steps, "seconds": round(time.time() - start, 1), "loss": curve}


def jitter(pixels):
    """Light, cheap variation of whole pictures: brightness, contrast and grain."""
    n = len(pixels)
    pixels = pixels * (1 + 0.06 * torch.randn(n, 1, 1, 1)) + 0.03 * torch.randn(n, 3, 1, 1)
    return (pixels + torch.randn_like(pixels) * 0.03 * torch.rand(n, 1, 1, 1)).clamp(-1, 1)


def mirror(pixels, may, maps=None):
    """Mirror half of the pictures that `may` be mirrored (those of shapes) left to right, and their maps."""
    flip = may & (torch.rand(len(pixels)) < 0.5)
    pixels[flip] = pixels[flip].flip(-1)
    if maps is None:
        return pixels
    maps[flip] = maps[flip].flip(-1)
    return pixels, maps


def scene_targets(scenes):
    """Class numbers of scenes for the five helper classifiers; -100 where a question does not apply."""
    return torch.tensor([[KINDS.index(s.kind), COLOURS.index(s.colour), GROUNDS.index(s.ground),
                          s.count - 1 if s.kind != "digit" else -100, s.value if s.kind == "digit" else -100]
                         for s in scenes])


def train_vision(model, pool, heldout, steps, size, log, seed=11):
    """Teach the vision tower with throw-away linear classifiers, on its mean feature and on every patch."""
    tower, rng = model.model.vision_tower, np.random.default_rng(seed)
    sizes = [len(KINDS), len(COLOURS), len(GROUNDS), 5, 10]
    width = tower.config.hidden_size
    norm, heads = torch.nn.LayerNorm(width), torch.nn.ModuleList(torch.nn.Linear(width, n) for n in sizes)
    dense = torch.nn.Linear(width, 1 + len(KINDS) - 1 + 10 + 1)  # ground, shapes, digits; and "centre here"
    scenes, pictures, maps = pool
    targets, maps = scene_targets(scenes), torch.from_numpy(maps).long()
    entropy = torch.nn.functional.cross_entropy

    def outputs(pixels):
        x = norm(patches(tower, pixels))
        pooled = x.mean(1)
        return [head(pooled) for head in heads], dense(x)

    def loss_of_step(_):
        pick = rng.integers(len(scenes), size=size)
        pixels, here = mirror(to_pixels(pictures[pick]), targets[pick, 4] < 0, maps[pick])
        (out, patch), want, here = outputs(jitter(pixels)), targets[pick], here.flatten(1)
        loss = sum(entropy(o, want[:, i]) for i, o in enumerate(out))
        centre = torch.nn.functional.binary_cross_entropy_with_logits(patch[..., -1], (here >= 32).float())
        return loss + 2 * entropy(patch[..., :-1].flatten(0, 1), (here % 32).flatten()) + 4 * centre

    parameters = [p for m in (tower, norm, heads, dense) for p in m.parameters()]
    run("vision", [{"params": parameters, "lr": 1.5e-3}], steps, loss_of_step, log)
    with torch.no_grad():
        (out, _), want = outputs(to_pixels(heldout[1])), scene_targets(heldout[0])
    score = {}
    for i, name in enumerate(["kind", "colour", "ground", "count", "digit"]):
        valid = want[:, i] >= 0
        score[name] = round(float((out[i].argmax(-1) == want[:, i])[valid].float().mean()), 4)
    print("vision held out", score, flush=True)
    log["vision"]["heldout"] = score


def cached_patches(model, pictures):
    """Features of all pictures before the projector, computed once while the tower is frozen."""
    with torch.no_grad():
        return torch.cat([patches(model.model.vision_tower, jitter(to_pixels(pictures[i:i + 100])))
                          for i in range(0, len(pictures), 100)])


def train_english(model, tokenizer, pool, steps, size, log):
    """Teach projector and language model to answer in English, with the tower frozen."""
    rng, (scenes, pictures, _) = np.random.default_rng(22), pool
    cache = cached_patches(model, pictures[:8000])

    def loss_of_step(_):
        ids, labels, used, more = batch(rng, tokenizer, scenes[:len(cache)], size, english)
        features = model.model.multi_modal_projector(cache[used])
        return torch.nn.functional.cross_entropy(*answer_logits(model, ids, labels, features, **more))

    others = [p for n, p in model.named_parameters() if "vision_tower" not in n]
    run("english", [{"params": others, "lr": 4e-3}], steps, loss_of_step, log)


def train_bilingual(model, tokenizer, pool, steps, size, log, seed=44):
    """Teach the whole model, the tower slowly, to answer in English, and in Korean where it is told to."""
    rng, (scenes, pictures, _) = np.random.default_rng(seed), pool
    shapes = torch.tensor([s.kind != "digit" for s in scenes])
    cache, frozen = cached_patches(model, pictures[:6000]), round(steps * 0.25)

    def loss_of_step(step):
        known = step < frozen  # the tower rests until the language model has settled on its features
        ids, labels, used, more = batch(rng, tokenizer, scenes[:len(cache)] if known else scenes, size, bilingual)
        if known:
            features = model.model.multi_modal_projector(cache[used])
        else:
            features = picture_features(model, jitter(mirror(to_pixels(pictures[used]), shapes[used])))
        return torch.nn.functional.cross_entropy(*answer_logits(model, ids, labels, features, **more))

    vision = list(model.model.vision_tower.parameters())
    others = [p for n, p in model.named_parameters() if "vision_tower" not in n]
    run("bilingual", [{"params": others, "lr": 3e-3}, {"params": vision, "lr": 6e-4}], steps, loss_of_step, log)


def train_korean(model, tokenizer, pool, steps, size, log):
    """Teach the LoRA inside the language model to answer in Korean; everything else stays as it is."""
    rng, (scenes, pictures, _) = np.random.default_rng(33), pool
    few = min(len(scenes), 8000)
    with torch.no_grad():
        features = model.model.multi_modal_projector(cached_patches(model, pictures[:few]))

    def loss_of_step(_):
        ids, labels, used, more = batch(rng, tokenizer, scenes[:few], size, korean)
        return torch.nn.functional.cross_entropy(*answer_logits(model, ids, labels, features[used], **more))

    run("korean", [{"params": [p for p in model.parameters() if p.requires_grad], "lr": 3e-3}], steps, loss_of_step, log)


# ---------------------------------------------------------------- writing
def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def replace_folder(folder, write):
    """Let `write` fill a new folder beside `folder`, then put it in its place."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)
    new.mkdir(parents=True)
    write(new)
    for file in new.iterdir():
        file.chmod(0o644)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def save_checkpoint(model, tokenizer, folder):
    """The base model as Hugging Face files."""
    model.generation_config.update(bos_token_id=START, eos_token_id=END, pad_token_id=PAD, max_length=None,
                                   max_new_tokens=64, do_sample=False)

    def write(new):
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        write_json(new / "preprocessor_config.json", PREPROCESSOR)

    replace_folder(folder, write)


def save_adapter(adapted, folder):
    """The adapter as PEFT files, without any path of the machine that trained it."""
    adapted.peft_config["default"].base_model_name_or_path = "demo"

    def write(new):
        adapted.save_pretrained(new)
        (new / "README.md").unlink(missing_ok=True)
        config = json.loads((new / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "demo"
        write_json(new / "adapter_config.json", config)

    replace_folder(folder, write)


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    args.add_argument("--pictures", type=int, default=16000, help="training pictures to draw")
    args.add_argument("--vision-steps", type=int, default=2500)
    args.add_argument("--english-steps", type=int, default=260)
    args.add_argument("--bilingual-steps", type=int, default=900)
    args.add_argument("--korean-steps", type=int, default=240)
    args.add_argument("--vision-batch", type=int, default=48)
    args.add_argument("--batch", type=int, default=20, help="conversations (or pictures with three questions each) a step")
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--resume", type=Path, help="folder that keeps finished stages, to go on after a stop")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    seed_all(0)
    begin, log = time.time(), {}

    def stage(name, seed, work):
        """Run a stage, or take its weights and log from the --resume folder."""
        seed_all(seed)
        kept = args.resume and args.resume / f"{name}.pt"
        if kept and kept.exists():
            state, log[name] = torch.load(kept)
            model.load_state_dict(state)
            return
        work()
        if kept:
            args.resume.mkdir(parents=True, exist_ok=True)
            torch.save((model.state_dict(), log[name]), kept)

    tokenizer = make_tokenizer(1)
    model = make_model(len(tokenizer))
    print("vocabulary", len(tokenizer), "parameters", sum(p.numel() for p in model.parameters()), flush=True)
    drawn = time.time()
    pool = make_pool(args.pictures, "train", seed=1, workers=2)
    heldout = make_pool(evaluate.HELDOUT, "heldout", seed=2, workers=2)
    log["drawing"] = {"pictures": args.pictures, "seconds": round(time.time() - drawn, 1)}
    print("drawing", log["drawing"], flush=True)

    model.train()
    stage("vision", 1, lambda: train_vision(model, pool, heldout, args.vision_steps, args.vision_batch, log))
    stage("english", 2, lambda: train_english(model, tokenizer, pool, args.english_steps, args.batch, log))
    stage("bilingual", 3, lambda: train_bilingual(model, tokenizer, pool, args.bilingual_steps, args.batch, log))
    model.eval()
    save_checkpoint(model, tokenizer, args.out / "checkpoint")
    scores = {"en": evaluate.score(model, tokenizer, heldout, "en"),
              "ko by system message": evaluate.score(model, tokenizer, heldout, "ko", language.IN_KOREAN)}
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"))
    stage("korean", 4, lambda: train_korean(model, tokenizer, pool, args.korean_steps, args.batch, log))
    adapted.eval()
    save_adapter(adapted, args.out / "ko-lora")
    scores["ko"] = evaluate.score(model, tokenizer, heldout, "ko")
    log["total_seconds"] = round(time.time() - begin, 1)
    evaluate.write_record(args.out, vars(args), log, scores)
    evaluate.write_golden(args.out)
    print(f"done in {time.time() - begin:.0f}s", flush=True)


if __name__ == "__main__":
    main()
