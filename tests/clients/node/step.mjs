// One step of a session with @aws-sdk/client-lambda: the step comes as JSON on standard input, what the SDK made of the
// answer goes as JSON to standard output. The endpoint and the credentials come from the environment, as for any program.
import { readFileSync } from "node:fs";
import {
  CreateFunctionCommand,
  DeleteFunctionCommand,
  GetFunctionCommand,
  InvokeCommand,
  LambdaClient,
  ResourceNotFoundException,
  UpdateFunctionCodeCommand,
  waitUntilFunctionActiveV2,
  waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";

const step = JSON.parse(readFileSync(0, "utf8"));
const client = new LambdaClient({});
const FunctionName = step.name;

const described = (f) => ({ state: f.State, update: f.LastUpdateStatus ?? "", sha256: f.CodeSha256 });

const verbs = {
  async create() {
    const f = await client.send(
      new CreateFunctionCommand({
        FunctionName,
        Runtime: step.runtime,
        Handler: step.handler,
        Role: "arn:aws:iam::000000000000:role/clients",
        Code: { ZipFile: readFileSync(step.zip) },
      }),
    );
    return described(f);
  },
  async active() {
    const { state } = await waitUntilFunctionActiveV2({ client, maxWaitTime: 60 }, { FunctionName });
    if (state !== "SUCCESS") throw new Error(`the waiter ended with ${state}`);
    return {};
  },
  async invoke() {
    const answer = await client.send(new InvokeCommand({ FunctionName, Payload: step.event, LogType: "Tail" }));
    return {
      status: answer.StatusCode,
      payload: answer.Payload.transformToString(),
      log: Buffer.from(answer.LogResult, "base64").toString(),
      executed: answer.ExecutedVersion,
      function_error: answer.FunctionError ?? "",
    };
  },
  async update() {
    const f = await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile: readFileSync(step.zip) }));
    return described(f);
  },
  async updated() {
    const { state } = await waitUntilFunctionUpdatedV2({ client, maxWaitTime: 60 }, { FunctionName });
    if (state !== "SUCCESS") throw new Error(`the waiter ended with ${state}`);
    return {};
  },
  async get() {
    try {
      const { Configuration } = await client.send(new GetFunctionCommand({ FunctionName }));
      return described(Configuration);
    } catch (error) {
      if (!(error instanceof ResourceNotFoundException)) throw error;
      return { error: error.name, message: error.message };
    }
  },
  async delete() {
    const answer = await client.send(new DeleteFunctionCommand({ FunctionName }));
    return { status: answer.$metadata.httpStatusCode };
  },
};

console.log(JSON.stringify(await verbs[step.verb]()));
