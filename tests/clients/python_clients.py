"""LiteLLM and LangChain against an OpenAI-compatible server: python_clients.py BASE_URL"""

import base64
import json
import pathlib
import sys
import traceback

import litellm
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

BASE = sys.argv[1]
KEY = "not-needed-here"
PICTURE = pathlib.Path(__file__).parents[2] / "examples/demo-model/pictures/three-red-circles.png"
DATA_URL = "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()

SCHEMA = {
    "name": "shape",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {
            "color": {"type": "string", "enum": ["red", "green", "blue"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["color", "count"],
        "additionalProperties": False,
    },
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Seoul", "Busan"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
HELLO = [{"role": "user", "content": "Hello!"}]
LOOK = [
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": DATA_URL}},
            {"type": "text", "text": "What is in the image?"},
        ],
    }
]


def check_shape(text):
    shape = json.loads(text)
    assert shape["color"] in ("red", "green", "blue") and 0 <= shape["count"] <= 9, shape


class LiteLLM:
    def __init__(self, provider):
        self.provider = provider

    def ask(self, messages, **more):
        return litellm.completion(
            model=f"{self.provider}/demo", messages=messages, api_base=BASE, api_key=KEY, **more
        )

    def chat(self):
        answer = self.ask(HELLO, max_tokens=16, temperature=0)
        assert answer.choices[0].message.content
        assert answer.usage.total_tokens > 0

    def stream(self):
        pieces = list(
            self.ask(HELLO, max_tokens=16, temperature=0, stream=True, stream_options={"include_usage": True})
        )
        assert "".join(it.choices[0].delta.content or "" for it in pieces if it.choices)
        assert any(getattr(it, "usage", None) for it in pieces)

    def tools(self):
        answer = self.ask(
            HELLO, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=200
        )
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls", choice
        call = choice.message.tool_calls[0]
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Seoul", "Busan")

    def image(self):
        assert self.ask(LOOK, max_tokens=32, temperature=0).choices[0].message.content

    def schema(self):
        answer = self.ask(HELLO, response_format={"type": "json_schema", "json_schema": SCHEMA})
        check_shape(answer.choices[0].message.content)

    def error(self):
        try:
            self.ask(HELLO, temperature=0, top_logprobs=3, logprobs=False)
        except litellm.BadRequestError as error:
            assert "top_logprobs" in str(error), error
        else:
            raise AssertionError("it was taken")
        try:
            self.ask(HELLO, extra_body={"adapter": "nobody"})
        except litellm.NotFoundError as error:
            assert "nobody" in str(error), error
        else:
            raise AssertionError("it was taken")

    def embeddings(self):
        answer = litellm.embedding(
            model=f"{self.provider}/demo", input=["Once", "Twice"], api_base=BASE, api_key=KEY, encoding_format="float"
        )
        once, twice = (it["embedding"] for it in answer.data)
        assert len(once) == len(twice) and once != twice


@tool
def weather(city: str) -> str:
    """The weather in a city"""
    return f"Rain in {city}"


class Shape(BaseModel):
    sure: bool


class LangChain:
    def model(self, **more):
        return ChatOpenAI(model="demo", base_url=BASE, api_key=KEY, max_retries=0, **more)

    def chat(self):
        answer = self.model(max_tokens=16, temperature=0).invoke("Hello!")
        assert answer.content and answer.usage_metadata["total_tokens"] > 0

    def stream(self):
        pieces = list(self.model(max_tokens=16, temperature=0, stream_usage=True).stream("Hello!"))
        assert "".join(it.content for it in pieces)
        assert any(it.usage_metadata for it in pieces)

    def tools(self):
        # It passes additionalProperties on to nobody, so that what the model adds is a matter of chance: of the same each time.
        model = self.model(max_tokens=400, seed=7)
        for mode in ("invoke", "stream"):
            bound = model.bind_tools([WEATHER], tool_choice="weather")
            if mode == "invoke":
                answer = bound.invoke("Hello!")
            else:
                answer = None
                for piece in bound.stream("Hello!"):
                    answer = piece if answer is None else answer + piece
            (call,) = answer.tool_calls
            assert call["name"] == "weather" and call["args"]["city"] in ("Seoul", "Busan"), call
        # What the tool said goes back.
        history = [HumanMessage("Hello!"), answer, ToolMessage("Rain", tool_call_id=call["id"])]
        assert model.bind_tools([weather]).invoke(history).content is not None

    def image(self):
        message = HumanMessage(content=LOOK[0]["content"])
        assert self.model(max_tokens=32, temperature=0).invoke([message]).content

    def schema(self):
        answer = self.model(max_tokens=100).with_structured_output(Shape, method="json_schema").invoke("Hello!")
        assert isinstance(answer.sure, bool)

    def error(self):
        import openai

        try:
            self.model(max_tokens=100_000_000).invoke("Hello!")
        except openai.BadRequestError as error:
            assert error.code == "invalid_value", error
        else:
            raise AssertionError("it was taken")
        try:
            self.model(extra_body={"adapter": "nobody"}).invoke("Hello!")
        except openai.NotFoundError as error:
            assert error.code == "model_not_found", error
        else:
            raise AssertionError("it was taken")

    def embeddings(self):
        # Texts as they are: its counter of tokens would fetch a file of OpenAI's.
        model = OpenAIEmbeddings(model="demo", base_url=BASE, api_key=KEY, check_embedding_ctx_length=False)
        once, twice = model.embed_documents(["Once", "Twice"])
        assert len(once) == len(twice) and once != twice


def main():
    failed = 0
    clients = {
        "litellm openai/": LiteLLM("openai"),
        "litellm hosted_vllm/": LiteLLM("hosted_vllm"),
        "langchain": LangChain(),
    }
    for name, client in clients.items():
        for what in ("chat", "stream", "tools", "image", "schema", "embeddings", "error"):
            try:
                getattr(client, what)()
                print(f"ok      {name} {what}")
            except Exception:
                failed += 1
                print(f"FAILED  {name} {what}")
                traceback.print_exc()
    sys.exit(1 if failed else 0)


main()
