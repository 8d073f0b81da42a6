// Says which values do not fit the published JSON schemas, for tests in Python.
//
// The official conformance suite carries the schema of each revision from 2025-03-26 on, and validates with
// them whatever it is sent over HTTP. They are read from the installed suite, so that other wires are held to
// the same. Usage: published_schemas.mjs DIRECTORY, whose node_modules holds the suite. Reads questions, each
// a line of JSON: a revision, and pairs of the name of a type and a value. Answers each with a line: a list
// of problems.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { runInNewContext } from "node:vm";

const directory = resolve(process.argv[2]);
const require = createRequire(join(directory, "package.json"));
const { Ajv } = require("ajv");
const { Ajv2020 } = require("ajv/dist/2020.js");
const addFormats = require("ajv-formats");

const SUITE = join(directory, "node_modules", "@modelcontextprotocol", "conformance", "dist", "index.js");

// How the schemas are told apart: by the newest of these types that they have.
const CAME_WITH = {
    "2025-03-26": "JSONRPCBatchRequest",
    "2025-06-18": "ElicitRequest",
    "2025-11-25": "TaskMetadata",
    "2026-07-28": "InputRequiredResult",
};
const OLDER_NAMES = { JSONRPCResultResponse: "JSONRPCResponse", JSONRPCErrorResponse: "JSONRPCError" };

function findEnd(text, start) {
    // The end of the object literal that begins at `start`.
    let depth = 0;
    for (let at = start; at < text.length; at++) {
        const character = text[at];
        if ("`\"'".includes(character)) {
            for (at++; text[at] !== character; at++) {
                if (text[at] === "\\") at++;
            }
        } else if (character === "{") {
            depth++;
        } else if (character === "}" && --depth === 0) {
            return at + 1;
        }
    }
    throw new Error(`the object at ${start} does not end`);
}

function readSchemas() {
    const text = readFileSync(SUITE, "utf8");
    const starts = [...text.matchAll(/=(\{\$schema:`https?:[^`]*`,(?:\$defs|definitions):)/g)];
    const schemas = starts.map(({ index }) =>
        JSON.parse(
            runInNewContext(`JSON.stringify(${text.slice(index + 1, findEnd(text, index + 1))})`),
        ),
    );
    const found = {};
    for (const schema of schemas) {
        const types = schema.$defs ?? schema.definitions;
        const revision = Object.keys(CAME_WITH).findLast((key) => CAME_WITH[key] in types);
        if (revision === undefined || revision in found) throw new Error(`which revision is ${revision}?`);
        found[revision] = allowFractions(schema);
    }
    if (Object.keys(found).length !== Object.keys(CAME_WITH).length) {
        throw new Error(`the suite has the schemas of ${Object.keys(found)}`);
    }
    return found;
}

// The schemas say "integer" for some of the numbers of the specification (schema.ts), also for values of forms.
function allowFractions(schema) {
    const numbers = schema.definitions?.NumberSchema ?? schema.$defs?.NumberSchema;
    for (const key of ["minimum", "maximum", "default"]) {
        if (numbers?.properties[key]?.type === "integer") numbers.properties[key].type = "number";
    }
    return JSON.parse(JSON.stringify(schema), (_, value) =>
        JSON.stringify(value) === '["string","integer","boolean"]' ? ["string", "number", "boolean"] : value,
    );
}

function makeValidators(schema) {
    const isNew = schema.$schema.includes("2020-12");
    const section = isNew ? "$defs" : "definitions";
    const types = schema[section];
    const ajv = new (isNew ? Ajv2020 : Ajv)({ strict: false, allErrors: true });
    addFormats(ajv);
    ajv.addFormat("byte", true);
    ajv.addSchema({ ...schema, $id: "mcp://schema" });
    const errors = new Map();
    for (const [name, type] of Object.entries(types)) {
        for (const part of type.properties?.error?.allOf ?? []) {
            const code = part.properties?.code?.const;
            if (code !== undefined) errors.set(code, name);
        }
    }
    const findType = (name, value) => {
        if (name === "JSONRPCErrorResponse" && errors.has(value.error?.code)) {
            return errors.get(value.error.code);
        }
        return name in types ? name : OLDER_NAMES[name];
    };
    const compiled = new Map();
    return (name, value) => {
        const type = findType(name, value);
        if (!(type in types)) return [{ message: "there is no such type" }];
        if (!compiled.has(type)) compiled.set(type, ajv.compile({ $ref: `mcp://schema#/${section}/${type}` }));
        const validate = compiled.get(type);
        return validate(value) ? [] : validate.errors;
    };
}

const schemas = readSchemas();
const validators = new Map();

for await (const line of createInterface({ input: process.stdin })) {
    const [revision, values] = JSON.parse(line);
    if (!validators.has(revision)) validators.set(revision, makeValidators(schemas[revision]));
    const problems = [];
    for (const [name, value] of values) {
        const errors = validators.get(revision)(name, value).slice(0, 5);
        if (errors.length > 0) {
            const told = errors.map(({ instancePath, message }) => `${instancePath ?? ""} ${message}`);
            problems.push(`${name}: ${told.join("; ")} in ${JSON.stringify(value)}`);
        }
    }
    console.log(JSON.stringify(problems));
}
