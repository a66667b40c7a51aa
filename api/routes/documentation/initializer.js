/* Shows the OpenAPI document in Swagger UI.
 *
 * When an operation is opened, Swagger UI resolves the references of the whole document, which
 * takes a second for ours. It is given the part that the operation refers to instead.
 */

function referredSchemas(value, schemas, referred = {}) {
  if (value === null || typeof value !== "object") return referred;
  const name = typeof value.$ref === "string" && value.$ref.split("#/components/schemas/")[1];
  if (name && !(name in referred)) {
    referred[name] = schemas[name];
    referredSchemas(schemas[name], schemas, referred);
  }
  for (const part of Object.values(value)) referredSchemas(part, schemas, referred);
  return referred;
}

function partOf(document, place) {
  const [section, name] = place;
  if (section !== "paths") return document;
  const paths = { [name]: document.paths[name] };
  const schemas = referredSchemas(paths, document.components.schemas);
  return { ...document, paths, components: { ...document.components, schemas } };
}

function ResolvePart(system) {
  const resolve = system.fn.resolveSubtree;
  return {
    fn: { resolveSubtree: (document, place, options) => resolve(partOf(document, place), place, options) },
  };
}

/* What is reserved for the command line is not for whoever reads the page. */
function withoutOperations(document) {
  const isPublic = ([path]) => !path.startsWith("/admin");
  const tags = document.tags.filter((tag) => tag.name !== "command line");
  return { ...document, tags, paths: Object.fromEntries(Object.entries(document.paths).filter(isPublic)) };
}

/* Behind a proxy that serves it under a prefix, the page tries operations out under that prefix. */
function withPrefix(document) {
  const prefix = new URL(".", location.href).pathname.replace(/\/$/, "");
  return prefix ? { ...document, servers: [{ url: prefix }] } : document;
}

const description = await (await fetch("openapi.json")).json();

SwaggerUIBundle({
  spec: withPrefix(withoutOperations(description)),
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  plugins: [ResolvePart],
  validatorUrl: null,
});
