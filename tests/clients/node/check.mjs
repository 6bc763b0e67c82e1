// The official `openai` client for Node against a gateway. Run by tests/test_clients_node.py with BASE_URL, KEY and NARROW_KEY set;
// prints one JSON object a line: {name, ok, detail}.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY, maxRetries: 0, timeout: 20_000 });
const narrow = client.withOptions({ apiKey: process.env.NARROW_KEY });
const SAID = "Grüße 🙂👩‍👩‍👧 请记住 KX-4711, \"quoted\" \\ and\ttabs </s>";
const ENGINES = ["vllm", "sglang", "mindie"];
const user = (content) => [{ role: "user", content }];
const WEATHER = {
  type: "function",
  function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } } },
};

async function refused(promise, kind, status, code) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${error?.constructor?.name} instead of ${kind.name}: ${error}`);
    assert.equal(error.status, status);
    assert.equal(error.code, code);
    return error;
  }
  assert.fail(`not refused with ${kind.name}`);
}

const checks = {
  async chat() {
    for (const model of ENGINES) {
      const answer = await client.chat.completions.create({ model, messages: user(SAID) });
      assert.equal(answer.model, model);
      assert.ok(answer.choices[0].message.content.startsWith(SAID));
      assert.equal(answer.choices[0].finish_reason, "stop");
      assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    }
  },

  async stream() {
    for (const model of ENGINES) {
      const whole = await client.chat.completions.create({ model, messages: user(SAID) });
      const stream = await client.chat.completions.create({ model, messages: user(SAID), stream: true });
      let text = "";
      for await (const chunk of stream) {
        assert.equal(chunk.model, model);
        assert.ok(!chunk.usage, "nobody asked for usage");
        text += chunk.choices[0].delta.content ?? "";
      }
      assert.equal(text, whole.choices[0].message.content);
    }
  },

  async usage() {
    for (const model of ENGINES) {
      const asked = { model, messages: user("count"), max_tokens: 7, stream: true, stream_options: { include_usage: true } };
      let last;
      for await (const chunk of await client.chat.completions.create(asked)) last = chunk;
      assert.deepEqual(last.choices, []);
      assert.equal(last.usage.completion_tokens, 7);
    }
  },

  async tools() {
    for (const model of ENGINES) {
      const asked = { model, messages: user("use get_weather for 北京"), tools: [WEATHER] };
      const answer = await client.chat.completions.create(asked);
      const call = answer.choices[0].message.tool_calls[0];
      assert.equal(answer.choices[0].finish_reason, "tool_calls");
      assert.deepEqual(JSON.parse(call.function.arguments), { city: "use get_weather for 北京", days: 1 });
      const streamed = await client.chat.completions.stream(asked).finalChatCompletion(); // the SDK puts the pieces together
      const other = streamed.choices[0].message.tool_calls[0];
      assert.equal(other.function.name, "get_weather");
      assert.equal(other.function.arguments, call.function.arguments);
    }
  },

  async json() {
    const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"] };
    for (const model of ENGINES) {
      const free = await client.chat.completions.create({ model, messages: user("你好"), response_format: { type: "json_object" } });
      assert.equal(typeof JSON.parse(free.choices[0].message.content), "object");
      const response_format = { type: "json_schema", json_schema: { name: "person", strict: true, schema } };
      const strict = await client.chat.completions.create({ model, messages: user("Ann"), response_format });
      assert.deepEqual(JSON.parse(strict.choices[0].message.content), { name: "Ann", age: 1 });
    }
  },

  async embeddings() {
    const input = ["one", "zwei 🙂"];
    const coded = await client.embeddings.create({ model: "vllm", input }); // the SDK asks for base64 and decodes it
    const plain = await client.embeddings.create({ model: "vllm", input, encoding_format: "float" });
    assert.equal(coded.data.length, 2);
    coded.data.forEach((item, number) => {
      assert.ok(item.embedding.length > 1);
      item.embedding.forEach((value, place) => assert.ok(Math.abs(value - plain.data[number].embedding[place]) < 1e-6));
    });
  },

  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.deepEqual(names, [...ENGINES, "slow"]);
    assert.equal((await client.models.retrieve("vllm")).owned_by, "gateway");
    assert.deepEqual((await narrow.models.list()).data.map((model) => model.id), ["vllm"]);
  },

  async completions() {
    const answer = await client.completions.create({ model: "vllm", prompt: "Once upon 从前", max_tokens: 9 });
    assert.ok(answer.choices[0].text.startsWith("Once upon 从前"));
  },

  async errors() {
    const chat = (model, content = "hi", more = {}) => client.chat.completions.create({ model, messages: user(content), ...more });
    await refused(client.withOptions({ apiKey: "sk-wrong" }).models.list(), OpenAI.AuthenticationError, 401, "invalid_api_key");
    await refused(narrow.chat.completions.create({ model: "mindie", messages: user("hi") }), OpenAI.PermissionDeniedError, 403, "model_not_allowed");
    await refused(chat("gpt-9"), OpenAI.NotFoundError, 404, "model_not_found");
    await refused(client.responses.create({ model: "vllm", input: "hi" }), OpenAI.NotFoundError, 404, "unknown_url");
    for (const model of ENGINES)
      for (const stream of [false, true])
        await refused(chat(model, "long ".repeat(3000), { stream }), OpenAI.BadRequestError, 400, "context_length_exceeded");
    const error = await refused(chat("gpt-9", "hi"), OpenAI.NotFoundError, 404, "model_not_found");
    assert.ok(error.requestID, "every error names its request");
  },

  async request_ids() {
    const asked = { model: "vllm", messages: user("hi") };
    const { data, response } = await client.chat.completions.create(asked, { headers: { "X-Request-Id": "ticket-4712" } }).withResponse();
    assert.equal(data._request_id, "ticket-4712");
    assert.equal(response.headers.get("x-gateway-channel"), "vllm");
  },

  async timeout() {
    const asked = client.chat.completions.create({ model: "slow", messages: user("hi") }, { timeout: 300 });
    await assert.rejects(asked, OpenAI.APIConnectionTimeoutError);
  },

  async cancellation() {
    const stream = await client.chat.completions.create({ model: "slow", messages: user("go on"), stream: true });
    let seen = 0;
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content && ++seen === 3) {
        stream.controller.abort();
        return { left: Date.now() / 1000 };
      }
    }
    assert.fail("the stream ended by itself");
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    const detail = await check();
    console.log(JSON.stringify({ name, ok: true, detail: detail ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ name, ok: false, detail: String(error.stack ?? error) }));
  }
}
