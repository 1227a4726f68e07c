// A device made of npm's mqtt: connects, says hello at each quality of service, and prints what it is told.
'use strict';
const fs = require('fs');
const mqtt = require('mqtt');

const [url, clientId, username, password, ca] = process.argv.slice(2);
const client = mqtt.connect(url, {
  clientId, username, password, protocolVersion: 4, keepalive: 1, reconnectPeriod: 0, connectTimeout: 10000,
  ca: ca ? fs.readFileSync(ca) : undefined,
});
const print = (what, value) => console.log(JSON.stringify({ [what]: value }));

client.on('error', error => {
  print('refused', error.code);
  client.end(true);
});
client.on('message', (topic, payload) => print('message', { topic, ...JSON.parse(payload) }));
client.on('close', () => print('closed', true));
client.on('connect', async () => {
  print('connected', true);
  const granted = await client.subscribeAsync('devices/p2p/' + clientId.split('@@@')[1]);
  print('granted', granted[0].qos);
  for (const qos of [0, 1]) {
    const answered = new Promise(resolve => client.once('message', resolve));
    await client.publishAsync('device-server', JSON.stringify({ type: 'hello', version: 3 }), { qos });
    await answered;
  }
  // Longer than the keep-alive and its grace: pings must be sent, and answered.
  await new Promise(resolve => setTimeout(resolve, 3000));
  await client.unsubscribeAsync('devices/p2p/#');
  await client.endAsync();
});
