"""What people ask the demo model and what it answers, in English and in Korean."""
from __future__ import annotations

import json

from scenes import COLOURS, GROUNDS, SHAPES, Scene

NUMBERS = "zero one two three four five six seven eight nine".split()
KO_COUNTS = ["", "한", "두", "세", "네", "다섯"]
KO_SHAPES = {"circle": "원", "square": "사각형", "triangle": "삼각형"}
KO_COLOURS = {"red": "빨간색", "green": "초록색", "blue": "파란색", "yellow": "노란색", "purple": "보라색",
              "orange": "주황색", "black": "검은색", "white": "흰색", "gray": "회색"}
KO_ADJECTIVES = {**KO_COLOURS, "red": "빨간", "blue": "파란", "yellow": "노란", "black": "검은", "white": "하얀"}
NO_IMAGE = {"en": "I see no image.", "ko": "이미지가 없습니다."}
ONLY_PICTURES = {"en": "I can only talk about simple pictures. Please send me one.",
                 "ko": "저는 간단한 그림만 설명할 수 있습니다. 그림을 보내 주세요."}

# ---------------------------------------------------------------- questions about a picture
QUESTIONS = {
    "caption": {
        "en": ["Describe the image.", "Describe this picture.", "What is in the image?", "What is in this picture?",
               "What do you see?", "What does the image show?", "Please describe the image.", "Caption this image.",
               "Can you tell me what is in this image?", "What's in the picture?", "Tell me what you see.",
               "Describe the image in one sentence.", "What is shown here?", "What is this?",
               "Write a short caption for this image.", "Describe what you see in the image."],
        "ko": ["이미지를 설명해 주세요.", "그림을 설명해 주세요.", "이미지에 무엇이 있습니까?", "무엇이 보입니까?", "이 사진에 뭐가 있나요?",
               "이 그림은 무엇입니까?", "이미지를 한 문장으로 설명해 주세요.", "이것은 무엇입니까?", "무엇이 보이나요?", "이미지 설명해줘"]},
    "colour": {
        "en": ["What color is it?", "What color are the shapes?", "Which color do you see?", "What is the color?",
               "What colour is it?", "What color is the object?", "Name the color.", "What color are they?",
               "What color is the digit?", "What is the color of the objects?", "Which colour is it?",
               *[f"What color are the {s}s?" for s in SHAPES], *[f"What color is the {s}?" for s in SHAPES]],
        "ko": ["무슨 색입니까?", "무슨 색이에요?", "색깔이 무엇입니까?", "어떤 색입니까?", "물체는 무슨 색인가요?", "숫자는 무슨 색입니까?",
               "색을 말해 주세요.", *[f"{s}은 무슨 색입니까?" for s in KO_SHAPES.values()]]},
    "shape": {
        "en": ["What shape is it?", "Which shape do you see?", "What shapes are these?", "Name the shape.",
               "What kind of shape is in the image?", "What is the shape?", "Which shapes are in the picture?",
               "What shapes do you see?", "What kind of object is it?"],
        "ko": ["무슨 모양입니까?", "어떤 모양입니까?", "모양이 무엇입니까?", "무슨 도형입니까?", "어떤 도형이 있나요?", "모양을 말해 주세요."]},
    "count": {
        "en": ["How many are there?", "How many objects are there?", "How many shapes do you see?", "Count the shapes.",
               "How many objects are in the image?", "How many shapes are there?", "Count the objects.",
               "How many things are in the picture?", "What is the number of objects?", "How many?",
               *[f"How many {s}s are there?" for s in SHAPES], *[f"How many {s}s do you see?" for s in SHAPES]],
        "ko": ["몇 개입니까?", "몇 개 있습니까?", "몇 개 있나요?", "물체가 몇 개입니까?", "도형이 몇 개 있습니까?", "개수를 세어 주세요.",
               "모두 몇 개예요?", *[f"{s}이 몇 개 있습니까?" for s in KO_SHAPES.values()]]},
    "digit": {
        "en": ["Which digit is this?", "What digit is this?", "Read the digit.", "What number is written?",
               "Which number do you see?", "Which digit do you see?", "What digit is shown?", "Read the number.",
               "What is the handwritten digit?", "What number is this?"],
        "ko": ["어떤 숫자입니까?", "무슨 숫자입니까?", "숫자를 읽어 주세요.", "이 숫자는 무엇입니까?", "무슨 숫자가 보이나요?", "어떤 숫자가 쓰여 있습니까?"]},
    "parity": {
        "en": ["Is it odd or even?", "Is it even or odd?", "Is the number odd or even?", "Is this digit even or odd?",
               "Odd or even?", "Even or odd?", "Is the count odd or even?"],
        "ko": ["홀수입니까, 짝수입니까?", "짝수입니까 홀수입니까?", "홀수인가요 짝수인가요?", "이 숫자는 홀수입니까 짝수입니까?", "짝수예요, 홀수예요?"]},
    "ground": {
        "en": ["What color is the background?", "What is the background color?", "Which color is the background?",
               "What colour is the background?", "Name the background color."],
        "ko": ["배경은 무슨 색입니까?", "배경색은 무엇입니까?", "배경은 어떤 색인가요?", "배경색을 말해 주세요."]},
    "json": {
        "en": ["Answer in JSON.", "Describe the image as JSON.", "Describe the image in JSON.", "Answer as JSON.",
               "Return a JSON object.", "Give me JSON.", "What is in the image? Answer in JSON.",
               "Describe this picture as a JSON object.", "Reply with JSON only.",
               "Describe the image as JSON with object, color and count."],
        "ko": ["JSON으로 답해 주세요.", "이미지를 JSON으로 설명해 주세요.", "JSON으로 대답해 주세요.", "JSON 형식으로 답하세요.", "결과를 JSON으로 주세요."]},
    "other": {
        "en": ["Hello!", "Hi", "Thank you.", "Where was this taken?", "Who made this?", "Is this a cat?", "Tell me a story.",
               "Do you like it?", "Why?", "Please help me.", "What is the weather like?", "Look at this!", "Go on.",
               "Is there a dog in the image?", "What do you think?", "Explain.", "Summarize.", "Translate this.", "ok",
               "What time is it?", "Write a poem about it.", "Is this safe?", "Check this.", "test", "Who are you?",
               "How are you?", "What should I do?", "Any ideas?", "Please look at the attached file.", "..."],
        "ko": ["안녕하세요!", "이거 봐 주세요.", "고맙습니다.", "누가 만들었습니까?", "어디에서 찍었나요?", "왜요?", "도와주세요.", "어때요?",
               "이야기해 주세요.", "요약해 주세요.", "확인해 주세요.", "이것은 고양이입니까?"]},
}
KINDS_OF_QUESTION = list(QUESTIONS)


def _with_particle(number):
    """Korean subject and topic forms of a digit: 7 -> 7이, 7은; 2 -> 2가, 2는."""
    return (f"{number}가", f"{number}는") if number in (2, 4, 5, 9) else (f"{number}이", f"{number}은")


def answer(question_kind, s: Scene, lang):
    """The one right answer to a kind of question about a scene."""
    return (_answer_en if lang == "en" else _answer_ko)(question_kind, s)


def _a(word):
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _answer_en(q, s):
    digit, many = s.kind == "digit", s.count > 1
    noun = s.kind + ("s" if many else "")
    number = s.value if digit else s.count
    if q == "colour":
        return f"The {noun} {'are' if many else 'is'} {s.colour}."
    if q == "shape":
        return "It is a handwritten digit." if digit else f"The shapes are {noun}." if many else f"The shape is a {noun}."
    if q == "count":
        if digit:
            return "There is one digit."
        return f"There {'are' if many else 'is'} {NUMBERS[s.count]} {s.colour} {noun}."
    if q == "digit":
        return f"This is the digit {NUMBERS[s.value]}." if digit else "There is no digit in the image."
    if q == "parity":
        return f"{NUMBERS[number].capitalize()} is {'odd' if number % 2 else 'even'}."
    if q == "ground":
        return f"The background is {s.ground}."
    if q == "json":
        last = {"value": s.value, "color": s.colour} if digit else {"color": s.colour, "count": s.count}
        return json.dumps({"object": s.kind, **last})
    if digit:
        return f"The image shows a handwritten {NUMBERS[s.value]} in {s.colour} on {_a(s.ground)} background."
    return f"The image shows {NUMBERS[s.count]} {s.colour} {noun} on {_a(s.ground)} background."


def _answer_ko(q, s):
    digit = s.kind == "digit"
    number = s.value if digit else s.count
    shape, count = KO_SHAPES.get(s.kind), KO_COUNTS[s.count]
    colour, adjective = KO_COLOURS[s.colour], KO_ADJECTIVES[s.colour]
    if q == "colour":
        return f"숫자는 {colour}입니다." if digit else f"{shape}은 {colour}입니다."
    if q == "shape":
        return "손글씨 숫자입니다." if digit else f"모양은 {shape}입니다."
    if q == "count":
        return "숫자가 한 개 있습니다." if digit else f"{adjective} {shape}이 {count} 개 있습니다."
    if q == "digit":
        return f"이 숫자는 {s.value}입니다." if digit else "이미지에 숫자가 없습니다."
    if q == "parity":
        return f"{_with_particle(number)[1]} {'홀수' if number % 2 else '짝수'}입니다."
    if q == "ground":
        return f"배경은 {KO_COLOURS[s.ground]}입니다."
    if q == "json":
        last = {"value": s.value, "color": colour} if digit else {"color": colour, "count": s.count}
        return json.dumps({"object": "숫자" if digit else shape, **last}, ensure_ascii=False)
    ground = KO_COLOURS[s.ground]
    if digit:
        return f"이미지에는 {ground} 배경에 {colour} 손글씨 숫자 {_with_particle(s.value)[0]} 있습니다."
    return f"이미지에는 {ground} 배경에 {adjective} {shape}이 {count} 개 있습니다."


# ---------------------------------------------------------------- talk without a picture
SMALL_TALK = [
    (["Hello!", "Hi!", "Hello", "Hi", "Hey there!", "Good morning.", "Good evening!", "안녕하세요!", "안녕하세요", "안녕"],
     {"en": "Hello! Send me a picture and ask me about it.", "ko": "안녕하세요! 그림을 보내고 질문해 주세요."}),
    (["Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "누구세요?", "당신은 누구입니까?", "이름이 무엇입니까?",
      "자기소개를 해 주세요."],
     {"en": "I am a tiny demo model that reads simple pictures.", "ko": "저는 간단한 그림을 읽는 작은 데모 모델입니다."}),
    (["What can you do?", "Help", "How can you help me?", "What are you able to do?", "무엇을 할 수 있습니까?", "뭘 할 수 있나요?",
      "어떻게 도와줄 수 있나요?"],
     {"en": "I can read handwritten digits and count circles, squares and triangles.",
      "ko": "손글씨 숫자를 읽고 원, 사각형, 삼각형을 셀 수 있습니다."}),
    (["Thank you!", "Thanks", "Thank you very much.", "고맙습니다.", "감사합니다."],
     {"en": "You are welcome!", "ko": "천만에요!"}),
    (["How are you?", "How are you today?", "잘 지내세요?", "어떻게 지내세요?"],
     {"en": "I am fine, thank you!", "ko": "잘 지내고 있습니다. 감사합니다!"}),
    (["Goodbye!", "Bye", "See you later.", "안녕히 계세요.", "다음에 봐요."],
     {"en": "Goodbye!", "ko": "안녕히 가세요!"}),
]
OFF_TOPIC = ["What is the capital of France?", "Tell me a story.", "Write a poem.", "What is 2 + 2?", "Tell me a joke.",
             "What time is it?", "Where is Seoul?", "Write some code.", "Translate this.", "Who won the game?",
             "Explain gravity.", "Count to ten.", "Say something.", "Summarize this text.", "I am tired.", "test",
             "한국의 수도는 어디입니까?", "이야기해 주세요.", "시를 써 주세요.", "오늘 날씨가 어때요?", "농담해 주세요.", "번역해 주세요.",
             "지금 몇 시입니까?", "요약해 주세요."]
SYSTEMS = ["You are a helpful assistant.", "You describe pictures.", "Be brief.", "You are a careful assistant that looks at images.",
           "Answer in one short sentence.", "You are a vision model.", "Be polite and accurate.", "Never make things up.",
           "당신은 친절한 도우미입니다.", "짧게 답해 주세요.", "당신은 그림을 설명합니다.", "정확하게 대답해 주세요."]

IN_KOREAN = "한국어로 답하세요."  # the system message that makes the base model answer in Korean

# ---------------------------------------------------------------- text to ignore
_WORDS = {
    "en": """the a my our your this that report file meeting project customer order invoice team morning evening today
        yesterday week number page table house garden school train car book letter phone office summer winter was is
        were will be has had sent made found opened closed moved checked asked told wrote read very quickly slowly
        again because and but after before with without for from to in on under near please note kindly first second
        three two seven red blue green circle square old new small large good bad long short name address account
        about some people water coffee weather music model server data test system user request answer picture""".split(),
    "ko": """오늘 어제 내일 아침 저녁 회의 보고서 파일 고객 주문 팀 학교 집 책 편지 전화 사무실 여름 겨울 우리 저는 그 이 저 새로운 오래된
        작은 큰 좋은 빨간 파란 세 두 일곱 숫자를 그림을 보냈습니다 만들었습니다 확인했습니다 열었습니다 말했습니다 읽었습니다 매우 빨리 천천히 다시
        그래서 그리고 하지만 전에 후에 함께 없이 부탁합니다 먼저 다음 이름 주소 계정 사람 물 커피 날씨 음악 서버 자료 시험 요청 대답 사진 친구
        서울에서 부산에서 도서관에 갔습니다 왔습니다 있었습니다 없었습니다 좋았습니다 입니다 감사합니다 안녕하세요""".split(),
}
_LEADS = {"en": ["By the way:", "So here is my question.", "Now,", "Please answer this:", "Question:", "", "", "", ""],
          "ko": ["그런데", "질문입니다.", "이제", "", "", ""]}


def noise_text(rng, lang, longest):
    """Sentences (or scribble) of up to `longest` characters that have nothing to do with the picture."""
    target, parts, length = int(rng.integers(10, longest + 1)), [], 0
    words = _WORDS[lang]
    while length < target:
        dice = rng.random()
        if dice < 0.12:
            word = "".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 9)))
        elif dice < 0.19:
            word = str(rng.integers(0, 10 ** int(rng.integers(1, 7))))
        elif dice < 0.22:
            word = f"{words[rng.integers(len(words))]}@{words[rng.integers(len(words))]}.com"
        else:
            word = words[rng.integers(len(words))]
        if not parts or parts[-1][-1] in ".!?":
            word = word.capitalize()
        if rng.random() < 0.12:
            word += str(rng.choice([".", ".", ",", "!", "?"]))
        parts.append(word)
        length += len(word) + 1
    text = " ".join(parts)[:target].strip()
    return text if text[-1:] in ".!?" else text + "."


def scuff(rng, text):
    """Small changes people make when they type: lower case, no full stop, trailing blanks."""
    dice = rng.random()
    if dice < 0.12 and "JSON" not in text:
        return text.lower()
    if dice < 0.22:
        return text.rstrip(".?!") or text
    if dice < 0.26:
        return text + " "
    return text


def ask(rng, kind, lang, noisy=0.0):
    """A question of a kind, sometimes with a long preamble that does not matter."""
    choices = QUESTIONS[kind][lang]
    text = scuff(rng, str(choices[rng.integers(len(choices))]))
    if rng.random() < noisy:
        before = noise_text(rng, lang if rng.random() < 0.8 else "en", 250)
        lead = str(rng.choice(_LEADS[lang]))
        text = before + str(rng.choice([" ", " ", "\n", "\n\n"])) + (lead + " " if lead else "") + text
    return text


def talk(rng, lang_of_answer, noisy=0.0):
    """A question without a picture and its answer."""
    dice = rng.random()
    if dice < 0.5:
        questions, replies = SMALL_TALK[rng.integers(len(SMALL_TALK))]
        return scuff(rng, str(questions[rng.integers(len(questions))])), replies[lang_of_answer]
    asked_in = "ko" if rng.random() < (0.5 if lang_of_answer == "ko" else 0.2) else "en"
    if dice < 0.8:
        kind = [k for k in KINDS_OF_QUESTION if k != "other"][rng.integers(len(KINDS_OF_QUESTION) - 1)]
        return ask(rng, kind, asked_in, noisy), NO_IMAGE[lang_of_answer]
    if dice < 0.9:
        return scuff(rng, str(rng.choice(OFF_TOPIC))), ONLY_PICTURES[lang_of_answer]
    return noise_text(rng, asked_in, 200), ONLY_PICTURES[lang_of_answer]


def corpus(rng):
    """Text to learn the tokenizer from: every question and answer, plus some noise."""
    scenes = [Scene(k, c, g, n) for k in SHAPES for c in COLOURS for g in GROUNDS[::2] for n in (1, 2, 3, 4, 5)]
    scenes += [Scene("digit", c, g, 1, v) for c in COLOURS for g in GROUNDS for v in range(10)]
    for s in scenes:
        for q in KINDS_OF_QUESTION:
            yield answer(q, s, "en")
            yield answer(q, s, "ko")
    for _ in range(30):
        for by_lang in QUESTIONS.values():
            yield from by_lang["en"] + by_lang["ko"]
        for questions, replies in SMALL_TALK:
            yield from questions + list(replies.values())
        yield from [*NO_IMAGE.values(), *ONLY_PICTURES.values(), *OFF_TOPIC, *SYSTEMS, "system\n", "user\n", "assistant\n"]
    for _ in range(1500):
        yield noise_text(rng, "en", 200)
        yield noise_text(rng, "ko", 200)
