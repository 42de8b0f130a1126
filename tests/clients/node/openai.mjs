// The official Node SDK, pointed at Deskhand by its base URL alone.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { text as bodyOf } from 'node:stream/consumers';
import OpenAI, { toFile } from 'openai';
import { ResponsesToolRunner } from 'openai/helpers/responses-tool-runner';
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { z } from 'zod';
import { all, mcpURL, model, run } from './checks.mjs';

const client = new OpenAI({ maxRetries: 0 });
const shell = { type: 'shell', environment: { type: 'container_auto' } };
const nowhere = { type: 'function', name: 'f', strict: false, parameters: { type: 'object', properties: {} } };
const upload = (text, name) => toFile(Buffer.from(text), name);
const kinds = (response) => response.output.map((item) => item.type);

run({
  async 'create, retrieve, input items, delete'() {
    const response = await client.responses.create({ model, input: '@@ say hi node' });
    assert.equal(response.output_text, 'hi node');
    assert.ok(response._request_id);
    assert.equal((await client.responses.retrieve(response.id)).output_text, 'hi node');
    assert.equal((await all(client.responses.inputItems.list(response.id))).length, 1);
    await client.responses.delete(response.id);
    await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
  },
  async 'stream helper'() {
    const seen = [];
    const stream = client.responses
      .stream({ model, input: '@@ say one two' })
      .on('response.output_text.delta', (event) => seen.push(event.delta));
    assert.equal((await stream.finalResponse()).output_text, 'one two');
    assert.equal(seen.join(''), 'one two');
  },
  async 'stream helper with a hosted tool'() {
    const stream = client.responses.stream({ model, input: '@@ note first\n@@ shell echo 42\n@@ think so\n@@ say done', tools: [shell] });
    const response = await stream.finalResponse();
    assert.deepEqual(kinds(response), ['message', 'shell_call', 'shell_call_output', 'reasoning', 'message']);
    assert.equal(response.output.at(-1).content[0].text, 'done');
  },
  async 'parse by a zod type'() {
    const person = z.object({ name: z.string(), age: z.number() });
    const format = zodTextFormat(person, 'person');
    const request = { model, input: '@@ json {"name": "Ann", "age": 3}', text: { format } };
    assert.deepEqual((await client.responses.parse(request)).output_parsed, { name: 'Ann', age: 3 });
    assert.deepEqual((await client.responses.stream(request).finalResponse()).output_parsed, { name: 'Ann', age: 3 });
  },
  async 'arguments parsed by a zod type'() {
    const find = zodResponsesFunction({ name: 'find', parameters: z.object({ id: z.number() }) });
    const response = await client.responses.parse({ model, input: '@@ call find {"id": 5}', tools: [find] });
    assert.deepEqual(response.output.at(-1).parsed_arguments, { id: 5 });
  },
  async 'function call and its answer'() {
    const first = await client.responses.create({ model, input: '@@ call f {}', tools: [nowhere] });
    const call = first.output.at(-1);
    assert.equal(call.type, 'function_call');
    const second = await client.responses.create({
      model,
      tools: [nowhere],
      previous_response_id: first.id,
      input: [{ type: 'function_call_output', call_id: call.call_id, output: '7' }],
    });
    assert.equal(second.output_text, 'RESULT: 7');
  },
  async 'tool runner'() {
    const heard = [];
    const runner = new ResponsesToolRunner({ functions: [{ tool: nowhere, execute: (given) => (heard.push(given), 'seven') }] });
    for (const stream of [false, true]) {
      const response = await runner.run(client, { model, input: '@@ call f {"n": 7}' }, { maxSteps: 3, stream });
      assert.equal(response.output.at(-1).content[0].text, 'RESULT: seven');
    }
    assert.deepEqual(heard, [{ n: 7 }, { n: 7 }]);
  },
  async 'hosted shell, container files'() {
    const events = await all(await client.responses.create({ model, input: '@@ shell echo 42 > n; cat n', tools: [shell], stream: true }));
    const { type, response } = events.at(-1);
    assert.equal(type, 'response.completed');
    assert.deepEqual(kinds(response), ['shell_call', 'shell_call_output', 'message']);
    assert.equal(response.output[1].output[0].stdout, '42\n');
    const id = response.output[0].environment.container_id;
    const files = await all(client.containers.files.list(id));
    assert.deepEqual(files.map((file) => file.path), ['/mnt/data/n']);
    const content = await client.containers.files.content.retrieve(files[0].id, { container_id: id });
    assert.equal(await content.text(), '42\n');
  },
  async 'code interpreter'() {
    const response = await client.responses.create({
      model,
      input: '@@ python print(6 * 7)',
      tools: [{ type: 'code_interpreter', container: { type: 'auto' } }],
      include: ['code_interpreter_call.outputs'],
    });
    assert.deepEqual(response.output[0].outputs, [{ type: 'logs', logs: '42\n' }]);
  },
  async 'containers with files'() {
    const given = await client.files.create({ file: await upload('from a file', 'given.txt'), purpose: 'user_data' });
    const container = await client.containers.create({ name: 'node', file_ids: [given.id] });
    const added = await client.containers.files.create(container.id, { file: await upload('hello', 'in.txt') });
    assert.equal(added.path, '/mnt/data/in.txt');
    const response = await client.responses.create({
      model,
      input: '@@ shell cat given.txt in.txt',
      tools: [{ type: 'shell', environment: { type: 'container_reference', container_id: container.id } }],
    });
    assert.equal(response.output_text, 'RESULT: from a filehello');
    assert.equal((await client.containers.retrieve(container.id)).name, 'node');
    await client.containers.files.delete(added.id, { container_id: container.id });
    await client.containers.delete(container.id);
    await assert.rejects(client.containers.retrieve(container.id), OpenAI.NotFoundError);
  },
  async 'files'() {
    const file = await client.files.create({ file: await upload('hello', 'x.txt'), purpose: 'user_data' });
    assert.equal(await (await client.files.content(file.id)).text(), 'hello');
    const listed = await client.files.list({ limit: 5 });
    assert.ok(listed.data.some((one) => one.id === file.id));
    assert.equal((await client.files.delete(file.id)).deleted, true);
  },
  async 'skills'() {
    const card = '---\nname: greet\ndescription: Says hello.\n---\nRun hi.sh.\n';
    const skill = await client.skills.create({
      files: [await upload(card, 'greet/SKILL.md'), await upload('echo hi from a skill\n', 'greet/hi.sh')],
    });
    assert.equal(skill.name, 'greet');
    const response = await client.responses.create({
      model,
      input: '@@ shell sh /mnt/skills/greet*/hi.sh',
      tools: [{ type: 'shell', environment: { type: 'container_auto', skills: [{ type: 'skill_reference', skill_id: skill.id }] } }],
    });
    assert.equal(response.output_text, 'RESULT: hi from a skill');
    await client.skills.delete(skill.id);
  },
  async 'background, resumed, cancelled'() {
    const started = await client.responses.create({ model, input: '@@ say later', background: true, stream: true });
    const { value: first } = await started[Symbol.asyncIterator]().next();
    started.controller.abort();
    const rest = await all(
      await client.responses.retrieve(first.response.id, { stream: true, starting_after: first.sequence_number }),
    );
    assert.equal(rest[0].sequence_number, first.sequence_number + 1);
    assert.equal(rest.find((event) => event.type === 'response.output_text.done').text, 'later');
    assert.equal(rest.at(-1).type, 'response.completed');
    const endless = await client.responses.create({ model, input: '@@ shell sleep 600', tools: [shell], background: true });
    assert.equal((await client.responses.cancel(endless.id)).status, 'cancelled');
  },
  async 'conversations'() {
    const conversation = await client.conversations.create({ items: [{ type: 'message', role: 'user', content: 'first' }] });
    const response = await client.responses.create({ model, conversation: conversation.id, input: '@@ say second' });
    assert.equal(response.conversation.id, conversation.id);
    const items = await all(client.conversations.items.list(conversation.id, { order: 'asc' }));
    assert.deepEqual(items.map((item) => item.role), ['user', 'user', 'assistant']);
    await client.conversations.items.delete(items[0].id, { conversation_id: conversation.id });
    assert.equal((await all(client.conversations.items.list(conversation.id))).length, 2);
    assert.equal((await client.conversations.delete(conversation.id)).deleted, true);
  },
  async 'vector stores and file search'() {
    const store = await client.vectorStores.create({ name: 'zoo' });
    const file = await client.vectorStores.files.uploadAndPoll(store.id, await upload('The zebra is number 7391.', 'zoo.md'));
    assert.equal(file.status, 'completed');
    const found = await client.vectorStores.search(store.id, { query: 'zebra' });
    assert.match(found.data[0].content[0].text, /7391/);
    const response = await client.responses.create({
      model,
      input: '@@ search zebra',
      tools: [{ type: 'file_search', vector_store_ids: [store.id] }],
      include: ['file_search_call.results'],
    });
    assert.match(response.output[0].results[0].text, /7391/);
    assert.match(response.output_text, /7391/);
    assert.equal((await client.vectorStores.delete(store.id)).deleted, true);
  },
  async 'an MCP server, asked for approval'() {
    const tool = { type: 'mcp', server_label: 'calc', server_url: mcpURL };
    const input = '@@ mcp add {"a": 20, "b": 22}';
    const free = await client.responses.create({ model, input, tools: [{ ...tool, require_approval: 'never' }] });
    assert.deepEqual(kinds(free), ['mcp_list_tools', 'mcp_call', 'message']);
    assert.equal(free.output_text, 'RESULT: 42');
    const asking = await client.responses.create({ model, input, tools: [tool] });
    const request = asking.output.at(-1);
    assert.equal(request.type, 'mcp_approval_request');
    const allowed = await client.responses.create({
      model,
      previous_response_id: asking.id,
      input: [{ type: 'mcp_approval_response', approval_request_id: request.id, approve: true }],
      tools: [tool],
    });
    assert.equal(allowed.output.find((item) => item.type === 'mcp_call').output, '42');
  },
  async 'WebSocket, turns that are not stored'() {
    const socket = new ResponsesWS(client);
    const turn = (request) =>
      new Promise((resolve, reject) => {
        const off = () => (socket.off('response.completed', done), socket.off('error', failed));
        const done = (event) => (off(), resolve(event.response));
        const failed = (error) => (off(), reject(error));
        socket.on('response.completed', done);
        socket.on('error', failed);
        socket.send({ type: 'response.create', model, store: false, tools: [nowhere], ...request });
      });
    try {
      const first = await turn({ input: '@@ call f {}' });
      const output = { type: 'function_call_output', call_id: first.output.at(-1).call_id, output: 'by socket' };
      const second = await turn({ previous_response_id: first.id, input: [output] });
      assert.equal(second.output.at(-1).content[0].text, 'RESULT: by socket');
      await assert.rejects(turn({ input: 'x', previous_response_id: 'resp_none' }), /resp_none/);
    } finally {
      socket.close();
    }
  },
  async 'webhooks'() {
    const receiver = http.createServer();
    receiver.listen(0, '127.0.0.1');
    await once(receiver, 'listening');
    const url = `http://127.0.0.1:${receiver.address().port}/`;
    const webhook = await client.webhooks.create({ name: 'node', url, event_types: ['response.completed'] });
    const delivered = once(receiver, 'request');
    const response = await client.responses.create({ model, input: '@@ say hook', background: true });
    const [request, answer] = await delivered;
    const body = await bodyOf(request);
    answer.end();
    const event = await client.webhooks.unwrap(body, request.headers, webhook.signing_secret);
    assert.deepEqual([event.type, event.data.id], ['response.completed', response.id]);
    await assert.rejects(client.webhooks.unwrap(`${body} `, request.headers, webhook.signing_secret), OpenAI.InvalidWebhookSignatureError);
    await client.webhooks.delete(webhook.id);
    receiver.close();
  },
  async 'chat completions'() {
    const messages = [{ role: 'user', content: '@@ say chatting' }];
    const whole = await client.chat.completions.create({ model, messages });
    assert.equal(whole.choices[0].message.content, 'chatting');
    const chunks = await all(await client.chat.completions.create({ model, messages, stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), 'chatting');
  },
  async 'errors'() {
    await assert.rejects(client.responses.create({ model, input: 'x', surprise: 1 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, 'surprise');
      assert.equal(error.code, 'unknown_parameter');
      return true;
    });
    await assert.rejects(client.responses.create({ model, input: 'x', previous_response_id: 'resp_none' }), (error) => {
      assert.equal(error.code, 'previous_response_not_found');
      return true;
    });
    const failed = await client.responses.create({ model, input: '@@ fail server_error boiled over' });
    assert.equal(failed.status, 'failed');
    assert.match(failed.error.message, /boiled over/);
    await assert.rejects(new OpenAI({ apiKey: 'sk-wrong', maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);
  },
});
