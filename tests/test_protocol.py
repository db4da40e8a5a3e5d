from rigs import REF


async def test_hello(lab, transport):
    server, client = await lab.pair(transport)
    heard = []
    server.assign_callback('EXPSTART', lambda data, addr: heard.append(data))
    await client.start(REF)
    assert heard == [[REF, None]]
