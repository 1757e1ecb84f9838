// The peer in Node: one process, node:http, the three paths of benchmarks/apps.py. Argument: the port.
import http from 'node:http';

const HELLO = Buffer.from('hello, world');
const LARGE = Buffer.alloc(100 * 1024, 'x');

function answer(response, body) {
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length });
  response.end(body);
}

const server = http.createServer((request, response) => {
  if (request.url === '/') return answer(response, HELLO);
  if (request.url === '/large') return answer(response, LARGE);
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => answer(response, Buffer.concat(chunks)));
});

server.listen(Number(process.argv[2]), '127.0.0.1');
