// Opens /docs in a real browser, presses Execute on every operation of results and sessions, and compares what was sent
// with what the page shows. Arguments: the service's address, the browser's path, optionally where a screenshot goes.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [service, executablePath, screenshot] = process.argv.slice(2);
const TAGS = ["results", "sessions"];

// Parameters that an operation needs although the document cannot say so: one of several.
const ONE_OF_SEVERAL = { list_sessions: { project_id: "jobseek" } };

const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
  ],
});
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1600 } });
  // On a busy machine all takes longer; nothing waits for a time to pass.
  page.setDefaultTimeout(300_000);
  const elsewhere = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(service) && !request.url().startsWith("data:")) elsewhere.push(request.url());
  });
  const document = await (await fetch(`${service}/openapi.json`)).json();
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item)
      .filter(([, operation]) => operation.tags.some((tag) => TAGS.includes(tag)))
      .map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  await page.goto(`${service}/docs/`);
  await page.locator(".opblock").first().waitFor();
  for (const { path, method, operation } of operations) {
    const id = operation.operationId;
    const block = page.locator(`#operations-${operation.tags[0]}-${id}`);
    assert.equal(await block.count(), 1, `${id} is on the page once`);
    await block.locator(".opblock-summary-control").first().click();
    await block.locator(".execute-wrapper, .try-out__btn").first().waitFor();
    const tryIt = block.getByRole("button", { name: "Try it out" });
    if (await tryIt.count()) await tryIt.click();
    await block.locator(".execute").waitFor();
    for (const [name, value] of Object.entries(ONE_OF_SEVERAL[id] ?? {})) {
      await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
    }
    const shown = await shownBy(block);
    assert.deepEqual([shown.method, shown.path], [method, path], `${id} is shown where it belongs`);
    if (screenshot && id === "put_result") await block.screenshot({ path: screenshot });

    const [request] = await Promise.all([
      page.waitForRequest((request) => request.url().startsWith(`${service}/v1/`)),
      block.locator(".execute").click(),
    ]);
    compare(id, operation, shown, request);
    const response = await request.response();
    assert.ok(response, `${id} is answered`);
    // What the page fills in is right: it may name what is not there, but no mistake of the client.
    assert.ok(response.status() < 400 || response.status() === 404, `${id}: ${response.status()}`);
    await block.locator(".live-responses-table").waitFor();
    console.log(`${id} ${request.method()} ${request.url().slice(service.length)} ${response.status()}`);
    await block.locator(".opblock-summary-control").first().click();
  }
  assert.deepEqual(elsewhere, [], "the page asks nothing of other hosts");
} finally {
  await browser.close();
}

/** What the page shows of an operation: where it would send what. */
async function shownBy(block) {
  const method = (await block.locator(".opblock-summary-method").first().innerText()).trim();
  const path = await block.locator(".opblock-summary-path").first().getAttribute("data-path");
  const parameters = await block.locator("tr[data-param-name]").evaluateAll((rows) =>
    rows.map((row) => ({
      name: row.dataset.paramName,
      place: row.dataset.paramIn,
      value: row.querySelector("input, select, textarea")?.value ?? "",
    })),
  );
  const body = block.locator(".opblock-section-request-body textarea");
  const hasBody = (await body.count()) > 0;
  return {
    method,
    path,
    parameters: parameters.filter(({ value }) => value !== "" && value !== "--"),
    body: hasBody ? await body.inputValue() : null,
    mediaType: hasBody ? await block.locator(".opblock-section-request-body select.content-type").inputValue() : null,
  };
}

/** Fails where the request is not the one that is shown, or has more in it than the operation needs. */
function compare(id, operation, shown, request) {
  const sent = new URL(request.url());
  const at = (place) => shown.parameters.filter((parameter) => parameter.place === place);
  const path = at("path").reduce((path, { name, value }) => path.replace(`{${name}}`, encodeURIComponent(value)), shown.path);
  assert.deepEqual([request.method(), sent.pathname], [shown.method, path], `${id} is sent where the page says`);
  const query = Object.fromEntries(at("query").map(({ name, value }) => [name, value]));
  assert.deepEqual(Object.fromEntries(sent.searchParams), query, `${id} has the query that is shown`);
  for (const name of Object.keys(query)) {
    const { required, schema } = operation.parameters.find((parameter) => parameter.name === name);
    const asked = name in (ONE_OF_SEVERAL[id] ?? {});
    assert.ok(required || asked || query[name] === String(schema.default), `${id}: ${name} was filled in unasked`);
  }
  assert.equal(request.headers()["crawlcache-lease"], undefined, `${id} names no lease`);
  if (shown.body === null) {
    assert.equal(request.postData(), null, `${id} has no body`);
    return;
  }
  assert.equal(request.headers()["content-type"], shown.mediaType, `${id} has the media type that is shown`);
  const read = shown.mediaType.endsWith("json") && !shown.mediaType.endsWith("ndjson") ? JSON.parse : String;
  assert.deepEqual(read(request.postData()), read(shown.body), `${id} has the body that is shown`);
}
