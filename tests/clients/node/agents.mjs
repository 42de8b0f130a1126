// The OpenAI Agents SDK for JavaScript, pointed at Deskhand by its base URL alone.
import assert from 'node:assert/strict';
import {
  Agent,
  OpenAIChatCompletionsModel,
  OpenAIConversationsSession,
  OpenAIResponsesCompactionSession,
  applyPatchTool,
  codeInterpreterTool,
  hostedMcpTool,
  run as ask,
  setDefaultOpenAIClient,
  setTracingDisabled,
  shellTool,
  tool,
} from '@openai/agents';
import OpenAI from 'openai';
import { z } from 'zod';
import { all, mcpURL, run } from './checks.mjs';

const client = new OpenAI({ maxRetries: 0 });
setDefaultOpenAIClient(client);
setTracingDisabled(true); // traces go to api.openai.com, whatever the base URL is

const weather = tool({
  name: 'weather',
  description: 'The weather in a city.',
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const calculator = (requireApproval) => hostedMcpTool({ serverLabel: 'calc', serverUrl: mcpURL, requireApproval });
// A compaction session takes no other names than OpenAI's.
const agent = (options) => new Agent({ name: 'first', model: 'gpt-5.6', ...options });

run({
  async 'a function'() {
    const { finalOutput } = await ask(agent({ tools: [weather] }), '@@ call weather {"city": "Oslo"}');
    assert.equal(finalOutput, 'RESULT: sunny in Oslo');
  },
  async 'a function, streamed'() {
    const result = await ask(agent({ tools: [weather] }), '@@ think\n@@ call weather {"city": "Bonn"}', { stream: true });
    const events = await all(result);
    await result.completed;
    assert.ok(events.some((event) => event.type === 'raw_model_stream_event'));
    assert.equal(result.finalOutput, 'RESULT: sunny in Bonn');
  },
  async 'a function, not stored'() {
    const modelSettings = { store: false, providerData: { include: ['reasoning.encrypted_content'] } };
    const { finalOutput } = await ask(agent({ tools: [weather], modelSettings }), '@@ think\n@@ call weather {"city": "Rome"}');
    assert.equal(finalOutput, 'RESULT: sunny in Rome');
  },
  async 'a function, over chat completions'() {
    const model = new OpenAIChatCompletionsModel(client, 'm');
    const { finalOutput } = await ask(agent({ model, tools: [weather] }), '@@ call weather {"city": "Lima"}');
    assert.equal(finalOutput, 'RESULT: sunny in Lima');
  },
  async 'a form for the answer'() {
    const outputType = z.object({ n: z.number() });
    assert.deepEqual((await ask(agent({ outputType }), '@@ json {"n": 4}')).finalOutput, { n: 4 });
  },
  async 'a handoff'() {
    const second = agent({ name: 'second', tools: [weather] });
    const script = '@@ call transfer_to_second {}\n@@ call weather {"city": "Kyiv"}';
    const result = await ask(agent({ handoffs: [second] }), script);
    assert.equal(result.lastAgent.name, 'second');
    assert.match(result.finalOutput, /sunny in Kyiv/);
  },
  async 'code interpreter'() {
    const tools = [codeInterpreterTool({ container: { type: 'auto' } })];
    assert.equal((await ask(agent({ tools }), '@@ python print(6 * 7)')).finalOutput, 'RESULT: 42');
  },
  async 'hosted shell'() {
    const tools = [shellTool({ environment: { type: 'container_auto' } })];
    assert.match((await ask(agent({ tools }), '@@ shell echo $((6 * 7))')).finalOutput, /42/);
  },
  async 'local shell'() {
    const exit = { type: 'exit', exitCode: 0 };
    const shell = { run: async ({ commands }) => ({ output: commands.map((one) => ({ stdout: `ran ${one}`, stderr: '', outcome: exit })) }) };
    assert.match((await ask(agent({ tools: [shellTool({ shell })] }), '@@ shell ls')).finalOutput, /ran ls/);
  },
  async 'apply_patch'() {
    const operations = [];
    const edit = async (operation) => (operations.push(operation), { status: 'completed', output: 'made it' });
    const editor = { createFile: edit, updateFile: edit, deleteFile: edit };
    const { finalOutput } = await ask(agent({ tools: [applyPatchTool({ editor })] }), '@@ create a.txt <<END\nhello\nEND');
    assert.deepEqual(operations.map(({ type, path, diff }) => [type, path, diff]), [['create_file', 'a.txt', '+hello']]);
    assert.match(finalOutput, /made it/);
  },
  async 'MCP'() {
    const { finalOutput } = await ask(agent({ tools: [calculator('never')] }), '@@ mcp add {"a": 20, "b": 22}');
    assert.equal(finalOutput, 'RESULT: 42');
  },
  async 'MCP, approved'() {
    const asking = await ask(agent({ tools: [calculator('always')] }), '@@ mcp add {"a": 20, "b": 22}');
    assert.equal(asking.interruptions.length, 1);
    asking.state.approve(asking.interruptions[0]);
    assert.match((await ask(asking.lastAgent, asking.state)).finalOutput, /42/);
  },
  async 'previousResponseId'() {
    const { lastResponseId } = await ask(agent(), '@@ say a');
    assert.equal((await ask(agent(), '@@ say b', { previousResponseId: lastResponseId })).finalOutput, 'b');
  },
  async 'a session that is a conversation'() {
    const session = new OpenAIConversationsSession({ client });
    await ask(agent(), '@@ say one', { session });
    await ask(agent(), '@@ say two', { session });
    assert.deepEqual((await session.getItems()).map((item) => item.role), ['user', 'assistant', 'user', 'assistant']);
  },
  async 'a session that is compacted'() {
    const session = new OpenAIResponsesCompactionSession({ client, model: 'gpt-5.6', shouldTriggerCompaction: () => true });
    await ask(agent(), '@@ say one', { session });
    assert.equal((await ask(agent(), '@@ say two', { session })).finalOutput, 'two');
    assert.ok((await session.getItems()).some((item) => item.type === 'compaction'));
  },
});
