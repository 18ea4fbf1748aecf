import { readFileSync } from "node:fs";

import { expect, it } from "vitest";

import { typesOf } from "../scripts/generate-api.mjs";

it("the API's types are those of its description; `npm run generate` renews both", async () => {
  const read = (name: string) =>
    readFileSync(new URL(`../src/api/${name}`, import.meta.url), "utf-8");
  expect(read("schema.d.ts")).toBe(await typesOf(JSON.parse(read("openapi.json"))));
});
