// SPDX-License-Identifier: Apache-2.0
//
// Checks objects of Kubernetes with the validators that kubernetes-models generates from the API's own description.
//
//   validate.mjs NODE_MODULES <OBJECTS     an array, as JSON; prints an array of texts for each
//
// Those validators don't mind members that the API doesn't have. They ask for each that it has, though: what an object
// has and nobody asked for is told, too.
import fs from 'fs';
import path from 'path';
import { register } from 'module';
import { pathToFileURL } from 'url';

// The formats that the validators take from a package with many dependencies, which nothing else of it is needed of.
const FORMATS = `
const matches = (pattern) => ({ validate: Object.assign((text) => pattern.test(text), { test: (text) => pattern.test(text) }) });
export const formats = {
  byte: matches(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/),
  quantity: matches(/^[+-]?(?:\\d+\\.?\\d*|\\.\\d+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?\\d+)?$/),
  'date-time': matches(/^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(?:\\.\\d+)?(?:Z|[+-]\\d\\d:\\d\\d)$/),
  int32: { validate: (n) => Number.isInteger(n) && n >= -(2 ** 31) && n < 2 ** 31 },
  int64: { validate: (n) => Number.isInteger(n) },
  double: { validate: (n) => Number.isFinite(n) },
};`;
const HOOK = `export const resolve = (name, context, next) => name === '@kubernetes-models/validate'
  ? { url: 'data:text/javascript,' + ${JSON.stringify(encodeURIComponent(FORMATS))}, shortCircuit: true }
  : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(HOOK)}`);

const SCHEMAS = {
  Pod: 'CoreV1Pod', Namespace: 'CoreV1Namespace', ConfigMap: 'CoreV1ConfigMap', Secret: 'CoreV1Secret', Service: 'CoreV1Service',
  Deployment: 'AppsV1Deployment', DaemonSet: 'AppsV1DaemonSet',
  MutatingWebhookConfiguration: 'AdmissionregistrationV1MutatingWebhookConfiguration',
};
const VERSIONS = { Core: 'v1', Apps: 'apps/v1', Admissionregistration: 'admissionregistration.k8s.io/v1' };

function watched(value, where, unasked) {
  if (value === null || typeof value !== 'object') return value;
  const children = new Map();
  const names = Array.isArray(value) ? [] : Object.keys(value);
  for (const name of names) unasked.set(`${where}/${name}`, true);
  return new Proxy(value, {
    get(target, name) {
      if (typeof name === 'symbol' || !Object.hasOwn(target, name)) return target[name];
      unasked.delete(`${where}/${name}`);
      if (!children.has(name)) children.set(name, watched(target[name], `${where}/${name}`, unasked));
      return children.get(name);
    },
  });
}

async function problems(object) {
  const schema = SCHEMAS[object.kind];
  if (!schema) return [`there is no validator for ${object.kind}`];
  const version = VERSIONS[schema.match(/^[A-Z][a-z]+/)[0]];
  if (object.apiVersion !== version) return [`apiVersion is not ${version}`];
  const file = path.join(process.argv[2], 'kubernetes-models/_schemas', `IoK8sApi${schema}.js`);
  const { validate } = await import(pathToFileURL(file));
  const unasked = new Map();
  const found = validate(watched(object, '', unasked)) ? [] : validate.errors.map((e) => `${e.instancePath}: ${e.keyword} ${JSON.stringify(e.params)}`);
  return found.concat([...unasked.keys()].map((where) => `${where}: unknown`));
}

const objects = JSON.parse(fs.readFileSync(0, 'utf8'));
console.log(JSON.stringify(await Promise.all(objects.map(problems))));
