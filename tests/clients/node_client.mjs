// openai-node against an OpenAI-compatible server: node node_client.mjs BASE_URL

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "not-needed-here", maxRetries: 0 });
const picture = path.join(import.meta.dirname, "../../../examples/demo-model/pictures/three-red-circles.png");
const url = "data:image/png;base64," + fs.readFileSync(picture).toString("base64");
const model = "demo";
const hello = [{ role: "user", content: "Hello!" }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Seoul", "Busan"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const schema = {
  type: "object",
  properties: { color: { type: "string", enum: ["red", "green"] }, sure: { type: "boolean" } },
  required: ["color", "sure"],
  additionalProperties: false,
};

const checks = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages: hello, temperature: 0, max_tokens: 16, n: 2 });
    assert.equal(answer.choices.length, 2);
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer._request_id);
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model, messages: hello, temperature: 0, max_tokens: 16, stream: true, stream_options: { include_usage: true },
    });
    let text = "";
    let usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.ok(text);
    assert.ok(usage.total_tokens > 0);
  },
  async tools() {
    const runner = client.chat.completions.stream({
      model, messages: hello, tools: [weather], tool_choice: "required", parallel_tool_calls: false, max_tokens: 200,
    });
    const answer = await runner.finalChatCompletion();
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, "weather");
    assert.ok(["Seoul", "Busan"].includes(JSON.parse(call.function.arguments).city));
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
  },
  async image() {
    const content = [{ type: "image_url", image_url: { url } }, { type: "text", text: "What is in the image?" }];
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }], temperature: 0 });
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer.usage.prompt_tokens_details.image_tokens > 0);
  },
  async schema() {
    const answer = await client.chat.completions.parse({
      model, messages: hello, max_tokens: 100,
      response_format: { type: "json_schema", json_schema: { name: "shape", strict: true, schema } },
    });
    const shape = JSON.parse(answer.choices[0].message.content);
    assert.ok(["red", "green"].includes(shape.color));
    assert.equal(typeof shape.sure, "boolean");
  },
  async completions() {
    const answer = await client.completions.create({ model, prompt: ["Once", "Twice"], max_tokens: 4, echo: true });
    assert.ok(answer.choices[1].text.startsWith("Twice"));
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model, input: ["Once", "Twice"] });
    const [once, twice] = answer.data.map((it) => it.embedding);
    assert.equal(once.length, twice.length);
    assert.ok(Math.abs(once.reduce((sum, it) => sum + it * it, 0) - 1) < 1e-4);
    assert.notDeepEqual(once, twice);
  },
  async errors() {
    const bad = client.chat.completions.create({ model, messages: [], temperature: 0 });
    await assert.rejects(bad, (error) => error instanceof OpenAI.BadRequestError && error.param === "messages");
    const none = client.embeddings.create({ model, input: "x", adapter: "nobody" });
    await assert.rejects(none, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok      openai-node ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  openai-node ${name}`);
    console.error(error);
  }
}
process.exit(failed ? 1 : 0);
