// s3rver, an S3 server that ignores the condition of a write; `s3rver.js MODULES FOLDER BUCKET`.
//
// Some of its faults S3 does not have, and they are mended: it shows objects that are half written, and keeps them when
// their sender dies; it does not list folders that hold nothing but folders; it takes the ranges bytes=0-0, bytes=-8 and
// those of empty objects for others; and an object that is copied onto itself keeps its time.

const crypto = require("crypto");
const fs = require("fs");
const path = require("path");

const [modules, directory, bucket] = process.argv.slice(2);
const S3rver = require(path.join(modules, "s3rver"));
const S3Object = require(path.join(modules, "s3rver/lib/models/object"));

const server = new S3rver({
  address: "127.0.0.1",
  port: 0,
  silent: true,
  directory,
  vhostBuckets: false,
  configureBuckets: [{ name: bucket, configs: [] }],
});
const { store } = server;

const listObjects = store.listObjects.bind(store);
store.listObjects = async (name, { delimiter, maxKeys, prefix = "", ...options }) => {
  const all = await listObjects(name, { prefix, ...options });
  const folderOf = ({ key }) => {
    const end = delimiter ? key.indexOf(delimiter, prefix.length) : -1;
    return end < 0 ? undefined : key.slice(0, end + delimiter.length);
  };
  const objects = all.objects.filter((object) => folderOf(object) === undefined);
  const commonPrefixes = [...new Set(all.objects.map(folderOf))].filter((folder) => folder !== undefined).sort();
  return { objects: objects.slice(0, maxKeys), commonPrefixes, isTruncated: objects.length > maxKeys };
};

store.putObject = async (object) => {
  const chunks = [];
  if (Buffer.isBuffer(object.content)) chunks.push(object.content);
  else for await (const chunk of object.content) chunks.push(chunk); // throws if the sender is gone
  const content = Buffer.concat(chunks);
  const file = store.getResourcePath(object.bucket, object.key, "object");
  const temporary = `${file}.${crypto.randomUUID()}`;
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(temporary, content);
  fs.renameSync(temporary, file);
  const md5 = crypto.createHash("md5").update(content).digest("hex");
  await store.putMetadata(object.bucket, object.key, object.metadata, md5);
  return { size: content.length, md5 };
};

const copyObject = store.copyObject.bind(store);
store.copyObject = async (...copy) => {
  const metadata = await copyObject(...copy);
  const now = new Date();
  fs.utimesSync(store.getResourcePath(copy[2], copy[3], "object"), now, now);
  return { ...metadata, "last-modified": now.toUTCString() };
};

server.middleware.unshift(async (ctx, next) => {
  ctx.store = Object.create(store, {
    getObject: {
      value: async (name, key) => {
        const range = /^bytes=(\d*)-(\d*)$/.exec(ctx.get("range"));
        const metadata = await store.getMetadata(name, key).catch(() => null);
        if (!range || !metadata) return store.getObject(name, key);
        const size = Number(metadata["content-length"]);
        const [first, last] = range.slice(1);
        const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
        const end = first === "" || last === "" ? size - 1 : Math.min(Number(last), size - 1);
        const file = store.getResourcePath(name, key, "object");
        const content = start <= end ? fs.createReadStream(file, { start, end }) : null;
        return Object.assign(new S3Object(name, key, content, metadata), { range: { start, end } });
      },
    },
  });
  await next();
});

server.run();
