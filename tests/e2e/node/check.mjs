// The official Node SDK, pointed at Deskhand by its base URL alone. Prints one line a check; exits 1 on a failure.
import assert from 'node:assert/strict';
import OpenAI, { toFile } from 'openai';

const client = new OpenAI({ maxRetries: 0 });
const model = 'm';
const shell = { type: 'shell', environment: { type: 'container_auto' } };

const checks = {
  async 'create, retrieve, input items, delete'() {
    const response = await client.responses.create({ model, input: '@@ say hi node' });
    assert.equal(response.output_text, 'hi node');
    assert.ok(response._request_id);
    assert.equal((await client.responses.retrieve(response.id)).output_text, 'hi node');
    const items = [];
    for await (const item of client.responses.inputItems.list(response.id)) items.push(item);
    assert.equal(items.length, 1);
    await client.responses.delete(response.id);
    await assert.rejects(client.responses.retrieve(response.id), (error) => error instanceof OpenAI.NotFoundError);
  },
  async 'stream helper'() {
    const seen = [];
    const stream = client.responses
      .stream({ model, input: '@@ say one two' })
      .on('response.output_text.delta', (event) => seen.push(event.delta));
    assert.equal((await stream.finalResponse()).output_text, 'one two');
    assert.equal(seen.join(''), 'one two');
  },
  async 'parse'() {
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false };
    const response = await client.responses.parse({
      model,
      input: '@@ json {"n": 7}',
      text: { format: { type: 'json_schema', name: 'n', schema, strict: true } },
    });
    assert.deepEqual(JSON.parse(response.output_text), { n: 7 });
  },
  async 'hosted shell, container files'() {
    const events = [];
    const stream = await client.responses.create({ model, input: '@@ shell echo 42 > n; cat n', tools: [shell], stream: true });
    for await (const event of stream) events.push(event);
    const response = events.at(-1).response;
    assert.equal(events.at(-1).type, 'response.completed');
    assert.deepEqual(response.output.map((item) => item.type), ['shell_call', 'shell_call_output', 'message']);
    assert.equal(response.output[1].output[0].stdout, '42\n');
    const id = response.output[0].environment.container_id;
    const files = [];
    for await (const file of client.containers.files.list(id)) files.push(file);
    assert.deepEqual(files.map((file) => file.path), ['/mnt/data/n']);
    const content = await client.containers.files.content.retrieve(files[0].id, { container_id: id });
    assert.equal(await content.text(), '42\n');
  },
  async 'containers'() {
    const container = await client.containers.create({ name: 'node' });
    const added = await client.containers.files.create(container.id, { file: await toFile(Buffer.from('hello'), 'in.txt') });
    assert.equal(added.path, '/mnt/data/in.txt');
    assert.equal((await client.containers.retrieve(container.id)).name, 'node');
    await client.containers.files.delete(added.id, { container_id: container.id });
    await client.containers.delete(container.id);
    await assert.rejects(client.containers.retrieve(container.id), (error) => error instanceof OpenAI.NotFoundError);
  },
  async 'files'() {
    const file = await client.files.create({ file: await toFile(Buffer.from('hello'), 'x.txt'), purpose: 'user_data' });
    assert.equal(await (await client.files.content(file.id)).text(), 'hello');
    const listed = [];
    for await (const one of client.files.list({ limit: 5 })) { listed.push(one.id); if (listed.length >= 5) break; }
    assert.ok(listed.includes(file.id));
    assert.equal((await client.files.delete(file.id)).deleted, true);
  },
  async 'function call and its answer'() {
    const tool = { type: 'function', name: 'f', strict: false, parameters: { type: 'object', properties: {} } };
    const first = await client.responses.create({ model, input: '@@ call f {}', tools: [tool] });
    const call = first.output.at(-1);
    assert.equal(call.type, 'function_call');
    const second = await client.responses.create({
      model,
      tools: [tool],
      previous_response_id: first.id,
      input: [{ type: 'function_call_output', call_id: call.call_id, output: '7' }],
    });
    assert.equal(second.output_text, 'RESULT: 7');
  },
  async 'errors'() {
    await assert.rejects(client.responses.create({ model, input: 'x', surprise: 1 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, 'surprise');
      assert.equal(error.code, 'unknown_parameter');
      return true;
    });
    await assert.rejects(
      new OpenAI({ apiKey: 'sk-wrong', maxRetries: 0 }).models.list(),
      (error) => error instanceof OpenAI.AuthenticationError,
    );
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
