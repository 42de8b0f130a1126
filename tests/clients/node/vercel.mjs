// The Vercel AI SDK, pointed at Deskhand by its base URL alone.
import assert from 'node:assert/strict';
import { createOpenResponses } from '@ai-sdk/open-responses';
import { createOpenAI } from '@ai-sdk/openai';
import { Output, generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';
import { all, apiKey, baseURL, mcpURL, model, run } from './checks.mjs';

const openai = createOpenAI({ baseURL, apiKey });
const responses = openai.responses(model);
const open = createOpenResponses({ name: 'deskhand', url: `${baseURL}/responses`, apiKey })(model);

const weather = tool({
  description: 'The weather in a city.',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const asked = (city) => ({ prompt: `@@ call weather {"city": "${city}"}`, tools: { weather }, stopWhen: isStepCount(4) });
const textOf = async (result) => (await all(result.textStream)).join('');
const hosted = (name, made) => ({ [name]: made });

/** A stream that fails tells nobody unless somebody listens. */
function stream(options) {
  const failures = [];
  const result = streamText({ ...options, onError: ({ error }) => failures.push(error) });
  return { result, failures };
}

run({
  async 'text'() {
    const said = await generateText({ model: responses, prompt: '@@ say hi' });
    assert.equal(said.text, 'hi');
    assert.equal(said.finishReason, 'stop');
    assert.ok(said.usage.totalTokens > 0);
    assert.match(said.response.id, /^resp_/);
  },
  async 'text, streamed'() {
    const { result, failures } = stream({ model: responses, prompt: '@@ think first\n@@ say one two three' });
    assert.equal(await textOf(result), 'one two three');
    assert.equal(await result.finishReason, 'stop');
    assert.deepEqual(failures, []);
  },
  async 'a loop of tool calls'() {
    const said = await generateText({ model: responses, ...asked('Oslo') });
    assert.equal(said.text, 'RESULT: sunny in Oslo');
    assert.equal(said.steps.length, 2);
  },
  async 'a loop that is not stored, with sealed reasoning'() {
    const { result, failures } = stream({
      model: openai.responses('gpt-5.6'), // of other names the SDK does not believe that they reason
      ...asked('Rome'),
      include: { requestBody: true },
      prompt: '@@ think about Rome\n@@ call weather {"city": "Rome"}',
      providerOptions: { openai: { store: false, include: ['reasoning.encrypted_content'], reasoningSummary: 'auto' } },
    });
    assert.equal(await textOf(result), 'RESULT: sunny in Rome');
    assert.deepEqual(failures, []);
    const [first, second] = await result.steps;
    const thought = first.content.find((part) => part.type === 'reasoning');
    assert.equal(thought.text, 'about Rome');
    assert.ok(thought.providerMetadata.openai.reasoningEncryptedContent);
    assert.match(JSON.stringify(second.request.body), /"encrypted_content":"/);
  },
  async 'a form for the answer'() {
    const said = await generateText({
      model: responses,
      prompt: '@@ json {"name": "Ann", "age": 3}',
      output: Output.object({ schema: z.object({ name: z.string(), age: z.number() }) }),
    });
    assert.deepEqual(said.output, { name: 'Ann', age: 3 });
  },
  async 'previousResponseId'() {
    const first = await generateText({ model: responses, prompt: '@@ say a' });
    const previousResponseId = first.providerMetadata.openai.responseId;
    const second = await generateText({ model: responses, prompt: '@@ say b', providerOptions: { openai: { previousResponseId } } });
    assert.equal(second.text, 'b');
    const none = { openai: { previousResponseId: 'resp_none' } };
    await assert.rejects(generateText({ model: responses, prompt: '@@ say c', providerOptions: none, maxRetries: 0 }), /resp_none/);
  },
  async 'code interpreter'() {
    const tools = hosted('code_interpreter', openai.tools.codeInterpreter({}));
    const said = await generateText({ model: responses, prompt: '@@ python print(6 * 7)', tools });
    assert.equal(said.text, 'RESULT: 42');
    assert.deepEqual(said.toolResults[0].output.outputs, [{ type: 'logs', logs: '42\n' }]);
  },
  async 'hosted shell'() {
    const tools = hosted('shell', openai.tools.shell({ environment: { type: 'containerAuto' } }));
    const said = await generateText({ model: responses, prompt: '@@ shell echo $((6 * 7))', tools });
    assert.match(said.text, /42/);
    assert.equal(said.toolResults[0].output.output[0].stdout, '42\n');
    const { result, failures } = stream({ model: responses, prompt: '@@ shell echo $((6 * 7))', tools });
    assert.match(await textOf(result), /42/);
    assert.deepEqual(failures, []);
  },
  async 'apply_patch, by the client'() {
    const operations = [];
    const execute = async ({ operation }) => {
      operations.push(operation);
      return { status: 'completed', output: 'made it' };
    };
    const said = await generateText({
      model: responses,
      prompt: '@@ create a.txt <<END\nhello\nEND',
      tools: hosted('apply_patch', openai.tools.applyPatch({ execute })),
      stopWhen: isStepCount(3),
    });
    assert.deepEqual(operations, [{ type: 'create_file', path: 'a.txt', diff: '+hello' }]);
    assert.match(said.text, /made it/);
  },
  async 'MCP'() {
    const mcp = openai.tools.mcp({ serverLabel: 'calc', serverUrl: mcpURL, requireApproval: 'never' });
    const request = { model: responses, prompt: '@@ mcp add {"a": 20, "b": 22}', tools: { mcp } };
    assert.equal((await generateText(request)).text, 'RESULT: 42');
    const { result, failures } = stream(request);
    assert.equal(await textOf(result), 'RESULT: 42');
    assert.deepEqual(failures, []);
  },
  async 'chat completions'() {
    const said = await generateText({ model: openai.chat(model), ...asked('Bonn') });
    assert.equal(said.text, 'RESULT: sunny in Bonn');
  },
  async 'the provider of Open Responses'() {
    assert.equal((await generateText({ model: open, ...asked('Lima') })).text, 'RESULT: sunny in Lima');
    const { result, failures } = stream({ model: open, prompt: '@@ think\n@@ say one two' });
    assert.equal(await textOf(result), 'one two');
    assert.deepEqual(failures, []);
  },
  async 'errors'() {
    const { result, failures } = stream({ model: responses, prompt: '@@ fail server_error boiled over', maxRetries: 0 });
    await all(result.textStream).catch(() => undefined);
    assert.match(JSON.stringify(failures), /boiled over/);
  },
});
