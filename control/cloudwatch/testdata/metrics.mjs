// Puts and gets metrics through AWS's SDK for JavaScript, in each of the protocols that it has for CloudWatch.
// Arguments: the endpoint, and the directory of @aws-sdk/client-cloudwatch.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [endpoint, directory] = process.argv.slice(2);
const require = createRequire(directory + "/package.json");
const { CloudWatchClient, PutMetricDataCommand, GetMetricDataCommand, GetMetricStatisticsCommand, ListMetricsCommand, paginateGetMetricData } = require(directory);
const protocols = require("@aws-sdk/core/protocols");
const minute = new Date(Math.floor(Date.now() / 60000) * 60000);
const after = new Date(minute.getTime() + 60000);

for (const protocol of [undefined, protocols.AwsJson1_0Protocol, protocols.AwsSmithyRpcV2CborProtocol, protocols.AwsQueryProtocol]) {
  const Namespace = protocol?.name ?? "default";
  const client = new CloudWatchClient({
    endpoint, region: "eu-west-1", credentials: { accessKeyId: "thaw", secretAccessKey: "thaw" }, maxAttempts: 1, ...(protocol && { protocol }),
    requestMinCompressionSizeBytes: 1,
    // With CBOR the SDK declares the length that the body had before it was compressed, and no server gets the rest.
    disableRequestCompression: protocol === protocols.AwsSmithyRpcV2CborProtocol,
  });
  const Dimensions = [{ Name: "FunctionName", Value: "f" }];
  await client.send(new PutMetricDataCommand({ Namespace, MetricData: [
    { MetricName: "m", Dimensions, Timestamp: minute, Values: [1, 2.5], Counts: [3, 1], Unit: "Milliseconds" },
  ] }));
  const found = await client.send(new GetMetricStatisticsCommand({
    Namespace, MetricName: "m", Dimensions, StartTime: minute, EndTime: after, Period: 60, Statistics: ["Sum", "SampleCount"], ExtendedStatistics: ["p100"],
  }));
  assert.deepEqual(found.Datapoints, [{ Timestamp: minute, Sum: 5.5, SampleCount: 4, Unit: "Milliseconds", ExtendedStatistics: { p100: 2.5 } }], Namespace);
  const request = { StartTime: minute, EndTime: after, MetricDataQueries: [
    { Id: "m1", MetricStat: { Metric: { Namespace, MetricName: "m", Dimensions }, Period: 60, Stat: "Average" } },
    { Id: "e1", Expression: "m1 * 100", Label: "percent" },
  ] };
  const values = {};
  for await (const page of paginateGetMetricData({ client, pageSize: 1 }, request)) {
    for (const r of page.MetricDataResults) values[r.Label] = [r.Timestamps, r.Values, r.StatusCode];
  }
  assert.deepEqual(values, { m: [[minute], [1.375], "Complete"], percent: [[minute], [137.5], "Complete"] }, Namespace);
  const { Metrics } = await client.send(new ListMetricsCommand({ Namespace }));
  assert.deepEqual(Metrics, [{ Namespace, MetricName: "m", Dimensions }], Namespace);
  await assert.rejects(client.send(new PutMetricDataCommand({ Namespace, MetricData: [{ MetricName: "m" }] })), (e) => {
    assert.equal(e.name, "InvalidParameterCombinationException", Namespace);
    assert.match(e.message, /^At least one of the parameters MetricData\.member\.1\.Value/);
    return true;
  });
  await assert.rejects(client.send(new GetMetricDataCommand({ ...request, EndTime: minute })), (e) => {
    assert.match(e.name, /^Validation(Error|Exception)$/, Namespace);
    return true;
  });
}
