// Count what each stream shows, and notice every lost message: node subscribe.mjs [ENDPOINT [MESSAGES]]
import { decode } from "@msgpack/msgpack";
import { Subscriber } from "zeromq";

const endpoint = process.argv[2] ?? "tcp://127.0.0.1:5555";
let messagesLeft = Number(process.argv[3] ?? -1);

const socket = new Subscriber({ linger: 0, maxMessageSize: 8 * 1024 * 1024 });
socket.subscribe("detections/", "status/"); // one stream: "detections/lobby", and check stream_id: topics match by prefix
socket.connect(endpoint);

const seen = new Map(); // stream -> class name -> objects
const newest = new Map(); // publisher and stream -> sequence; a new publisher id is a restart

for await (const [, payload] of socket) {
  const message = payload[0] === 0x7b /* "{" */ ? JSON.parse(payload.toString()) : decode(payload);
  if (message.schema_version !== 1) throw new Error(`schema version ${message.schema_version} is not 1`);
  const { stream_id: stream, sequence } = message;
  const isResult = message.kind === "detections";

  const key = `${message.publisher} ${stream}`;
  const known = newest.get(key) ?? sequence;
  const lost = sequence - known - (isResult ? 1 : 0);
  if (lost > 0) console.log(`${stream}: lost ${lost} messages after sequence ${known}`);
  newest.set(key, Math.max(known, sequence));

  const counts = seen.get(stream) ?? {};
  seen.set(stream, counts);
  if (isResult) {
    for (const { class_name: name } of message.objects) counts[name] = (counts[name] ?? 0) + 1;
    messagesLeft -= 1;
  }
  if (!isResult || messagesLeft === 0) console.log(stream, JSON.stringify(counts));
  if (messagesLeft === 0) break;
}
socket.close();
