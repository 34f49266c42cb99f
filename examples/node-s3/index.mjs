// Tells where an object of a bucket is found, with AWS's own SDK. The SDK knows the rules; nothing is sent.
import { S3Client } from "@aws-sdk/client-s3";

const s3 = new S3Client({ region: "us-east-1" });

export const handler = async (event) => {
  const endpoint = s3.config.endpointProvider({ Bucket: event.bucket ?? "example", Region: await s3.config.region() });
  return { url: new URL(event.key ?? "hello.txt", `${endpoint.url}`).href };
};
