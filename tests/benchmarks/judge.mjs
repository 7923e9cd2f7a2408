// Asks @cloud-copilot/iam-simulate, a process of its own (AGPL: run, never shipped): what do identity policies decide?
// One JSON object a line in: {policies: [document…], requests: [{action, resource, context}…]}; one list of words out.
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const home = pathToFileURL(`${process.argv[2]}/node_modules/@cloud-copilot/`).href
const load = (path) => import(home + path)
const { loadPolicy } = await load('iam-policy/dist/esm/index.js')
const { analyzeIdentityPolicies } = await load('iam-simulate/dist/esm/core_engine/CoreSimulatorEngine.js')
const { AwsRequestImpl } = await load('iam-simulate/dist/esm/request/request.js')
const { RequestContextImpl } = await load('iam-simulate/dist/esm/requestContext.js')
const { DiscoveryContextKeyConstraints } = await load('iam-simulate/dist/esm/context_keys/discoveryContextKeyConstraints.js')

const settings = { simulationMode: 'Strict', discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([]) }
for await (const line of createInterface({ input: process.stdin })) {
  const { policies, requests } = JSON.parse(line)
  const loaded = policies.map((p, i) => loadPolicy(p, { name: `p${i}` }))
  const said = requests.map(({ action, resource, context }) => {
    const request = new AwsRequestImpl('arn:aws:iam::111122223333:role/Corpus', { resource, accountId: '111122223333' },
      action, new RequestContextImpl(context))
    return analyzeIdentityPolicies(loaded, request, settings, 'identity').result
  })
  process.stdout.write(JSON.stringify(said) + '\n')
}
