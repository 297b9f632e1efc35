// A client that openapi-typescript has generated, against the service whose address is the first argument: put, get, 404.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

function check(holds: boolean, what: string, found: unknown): void {
  if (!holds) throw new Error(`${what}: ${JSON.stringify(found)}`);
}

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const url = "https://typescript.example/";
const document = { url, success: true, status_code: 200, html: "<p>text</p>", markdown: "text" };

const put = await client.PUT("/v1/result", { params: { query: { url, ttl: 60 } }, body: document });
const stored: components["schemas"]["Stored"] | undefined = put.data;
check(put.response.status === 201 && stored?.outcome === "created" && stored.url === url, "put", put);

const got = await client.GET("/v1/result", { params: { query: { url, fields: "markdown" } } });
check(got.response.status === 200 && got.data?.["markdown"] === "text", "get", got);

const missing = await client.GET("/v1/result", { params: { query: { url: "https://typescript.example/missing" } } });
const problem: components["schemas"]["Problem"] | undefined = missing.error;
check(problem?.status === 404 && problem.code === "result_not_found" && problem.reason === "absent", "404", missing);

// @ts-expect-error A parameter that is needed is missed by the compiler.
const refused = await client.GET("/v1/result", { params: { query: {} } });
check(refused.error?.code === "invalid_parameter" && refused.error.field === "url", "400", refused);
