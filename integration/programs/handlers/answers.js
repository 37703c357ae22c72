// Build: js_p2
// Answers by path: what tests ask of a handler.
let visits = 0;
const kept = [];

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
        case '/echo':
            return new Response(request.body, {
                headers: { 'content-type': request.headers.get('content-type') ?? 'none' },
            });
        case '/method':
            return new Response(request.method + ' ' + (request.headers.get('x-name') ?? ''));
        case '/status':
            return new Response(null, { status: Number(url.searchParams.get('code')) });
        case '/large':
            return new Response('x'.repeat(Number(url.searchParams.get('bytes'))));
        case '/secret': {
            // Kept in a variable, in memory that is never given back, and in a global object.
            const before = [...kept, globalThis.secret ?? ''].join(',');
            kept.push(await request.text());
            globalThis.secret = kept[kept.length - 1];
            return new Response(`${visits++} ${before}`);
        }
        case '/fetch': {
            const answered = await fetch(url.searchParams.get('url'));
            return new Response(`${answered.status} ${await answered.text()}`);
        }
        case '/wait':
            await new Promise((done) => setTimeout(done, Number(url.searchParams.get('ms'))));
            return new Response('waited');
        case '/fail':
            throw new Error('the handler failed');
        case '/spin':
            for (;;) {}
        default:
            return new Response('not here', { status: 404 });
    }
}
