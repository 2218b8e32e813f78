-- read_meta: what a client has to know before it writes.
-- Reply identity of the server ('' on a replica), then of meta: layout, partitions, codec, identity, epoch, seq,
--       foreign epochs, mode, and the newest version that was dropped (8 bytes; '' for none)
-- @include keys
-- @include identity
local meta = redis.call('HMGET', META, 'layout', 'partitions', 'codec', 'identity', 'epoch', 'seq', 'foreign',
  'mode', 'dropped')
return {
  identity() or '', meta[1] or '', meta[2] or '', meta[3] or '', meta[4] or '', meta[5] or '', meta[6] or '',
  meta[7] or '', meta[8] or '', meta[9] or '',
}
