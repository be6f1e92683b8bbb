// A certified OpenID provider in a process of its own, with three people. Prints its address when it listens.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import http from "node:http";

const [, , modules, redirect] = process.argv;
const require = createRequire(`${modules}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

const people = { ada: ["researchers", "staff"], otto: ["operators"], eve: ["nobody"] };
const server = http.createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: "hanse", client_secret: "a secret that is long enough for a client",
    redirect_uris: [redirect], response_types: ["code"],
    grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
  }],
  scopes: ["openid", "profile", "email", "groups"],
  claims: { openid: ["sub"], groups: ["groups"], profile: ["preferred_username"] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
  cookies: { keys: ["one key of a test"] },
  findAccount: (_, id) => (people[id] ? { accountId: id, claims: async () => ({ sub: id, preferred_username: id, groups: people[id] }) } : undefined),
});
provider.on("server_error", (_, error) => console.error(error));
server.on("request", provider.callback());
console.log(`ready ${issuer}`);
