// What the scripts here have in common: where the server is, and how checks are run and told of.
export const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey, MCP_URL: mcpURL } = process.env;
export const model = 'm';

const SECONDS = 60;

const overdue = () =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`not over after ${SECONDS} s`)), SECONDS * 1000).unref());

/** Runs checks one after another and prints a line for each; the process ends with 1 if one failed. */
export async function run(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await Promise.race([check(), overdue()]);
      console.log(`ok    ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}: ${error.stack}`);
    }
  }
  process.exit(failed ? 1 : 0);
}

/** Everything that an asynchronous iterable has. */
export async function all(iterable) {
  const found = [];
  for await (const one of iterable) found.push(one);
  return found;
}
