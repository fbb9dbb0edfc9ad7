#!lua name=evergate_1
--
-- The event log inside Redis. One call of one function is one atomic step; nothing else may write
-- to these keys. The words are those of the design: epoch, seq, tail, hwm, floor, gate, slot.
--
-- Keys, one hash tag per slot (a fixed hash of the stream's name, see keys.rs):
--
--   evergate:{<slot>}:slot                hash    fence, token, replid, epochs, pruned
--   evergate:{<slot>}:streams             set     names of all streams that were ever appended to
--   evergate:{<slot>}:meta:<stream>       hash    epoch tail hwm floor bytes gone time ends row level
--   evergate:{<slot>}:log:<stream>        stream  id <epoch>-<seq>, fields t (ms) and e (the event)
--   evergate:{<slot>}:index:<stream>      zset    score seq, member "seq epoch time bytes-before"
--   evergate:{<slot>}:producers:<stream>  hash    <producer> -> window, <producer>/<n> -> closed run
--   evergate:{<slot>}:recent:<stream>     zset    score seq of its newest event, member <producer>
--   evergate:{<slot>}:live:<stream>       the sharded channel
--
-- Rules that every function keeps:
--   * Everything is validated before anything is written: Redis keeps what a failing function wrote.
--   * Numbers are whole and at most 2^53-1, written with %.0f, compared as numbers, never as text.
--   * Meta is never deleted: it is the memory of where the stream stood.
--   * No answer about order, loss or duplicates reads a clock. `now` only stamps and ages.
--
-- An event is one text: "<producer>\t<its seq>\t<traceparent>\n<key>\n<type>\n<data>". None of the
-- parts before the data can hold a control character.

local VERSION = 5 -- Raised with every change of this file. The major one is in the library's name.

local NUMBER_MAX = 9007199254740991
local WINDOW = 1024
local PRODUCERS_MAX = 10000
local ROW_EVENTS = 256
local ROW_BYTES = 1048576
local ROW_MILLIS = 10000
local SCAN = 32
local EPOCHS_MAX = 64

-- token -> {slot, epoch, replid}. Volatile on purpose: it is lost with the process, with a replaced
-- library, and does not fit any more after a promotion, which changes master_replid.
local gates = {}

-- A slot's record -> the replid under which nothing of the slot was here. In a cluster: what is here now
-- came later. As volatile as the gates, and for the same reason.
local vacancies = {}

local function int(number)
  return string.format('%.0f', number)
end

local function offset(epoch, seq)
  return string.format('%.0f-%.0f', epoch, seq)
end

local function max(a, b)
  if a > b then return a end
  return b
end

local function min(a, b)
  if a < b then return a end
  return b
end

-- A number from outside: whole, and exactly representable.
local function number(text, what)
  local value = tonumber(text)
  if not value or value < 0 or value > NUMBER_MAX or value ~= math.floor(value) then
    error({ err = 'ERR evergate: ' .. what .. ' is no whole number up to 2^53-1' })
  end
  return value
end

local function replid()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end

---------------------------------------------------------------------------------------- the gate

-- The slot's record, and its gate if that is open in this very process.
local function slot_of(slot_key)
  local stored = redis.call('HMGET', slot_key, 'fence', 'token', 'epochs', 'replid')
  local slot = {
    fence = tonumber(stored[1] or '0'),
    token = stored[2] or '',
    epochs = stored[3] or '',
    replid = stored[4] or '',
    current_replid = replid(),
  }
  local gate = gates[slot.token]
  slot.open = gate ~= nil
    and gate.slot == slot_key
    and gate.epoch == slot.fence
    and gate.replid == slot.current_replid
  return slot
end

-- Nothing if the caller may write; otherwise what it is to be answered.
local function guard(slot_key, epoch, token)
  local stored = redis.call('HMGET', slot_key, 'fence', 'token')
  local fence = tonumber(stored[1] or '0')
  local gate = gates[stored[2] or '']
  if not gate or gate.slot ~= slot_key or gate.epoch ~= fence or gate.replid ~= replid() then
    return { 'SHUT', int(fence), int(fence) }
  end
  if epoch ~= fence or token ~= stored[2] then
    return { 'FENCED', int(fence), stored[2] }
  end
  return nil
end

-- open <slot> : expected-fence new-epoch token [1 if the slot came here whole]
--
-- One compare-and-set. The loser of a race reads the winner's epoch and token. An epoch that ends
-- while its primary is still the same lost nothing; any other end is marked with "!", because a
-- crash may have cut off a tail that nobody knows of. A slot that a cluster moved comes from another
-- primary. Whoever has that one's word (see `held`) says so; and if the slot was not here before, while
-- this one was the same primary as now (see `vacant`), nothing was lost either.
local function open(keys, args)
  local expected = number(args[1], 'the expected fence')
  local epoch = number(args[2], 'the new epoch')
  local token = args[3]
  local slot = slot_of(keys[1])
  if slot.fence ~= expected then
    if slot.open then return { 'FENCED', int(slot.fence), slot.token } end
    return { 'SHUT', int(slot.fence), int(slot.fence) }
  end
  if epoch <= expected or token == '' then
    return redis.error_reply('ERR evergate: a new epoch is above the fence and has a token')
  end
  local epochs = slot.epochs
  if epochs == '' then
    epochs = int(epoch)
  else
    local whole = args[4] == '1' and vacancies[keys[1]] == slot.current_replid
    if slot.replid ~= slot.current_replid and not whole then epochs = epochs .. '!' end
    epochs = epochs .. ' ' .. int(epoch)
  end
  -- The oldest are forgotten. A cursor of one of them is unknown, and whoever crosses its end is told
  -- that something may be lost, as its mark is forgotten with it.
  local _, many = string.gsub(epochs, '%d+', '')
  for _ = EPOCHS_MAX + 1, many do
    local oldest, rest = string.match(epochs, '^(%d+)!? (.*)$')
    redis.call('HSET', keys[1], 'pruned', oldest)
    epochs = rest
  end
  redis.call('HSET', keys[1], 'fence', int(epoch), 'token', token, 'replid', slot.current_replid, 'epochs', epochs)
  vacancies[keys[1]] = nil
  gates[slot.token] = nil
  gates[token] = { slot = keys[1], epoch = epoch, replid = slot.current_replid }
  local replicas = string.match(redis.call('INFO', 'replication'), 'connected_slaves:(%d+)')
  return { 'OPEN', int(epoch), token, replicas or '0' }
end

-- held (no key) : the slot's record, epoch
--
-- Whether this very process opened this epoch of the slot, and is the same primary ever since. It may
-- have given the slot away meanwhile, so it names no key: no node turns the question away.
local function held(_, args)
  local epoch = number(args[2], 'the epoch')
  for _, gate in pairs(gates) do
    if gate.slot == args[1] and gate.epoch == epoch then return gate.replid == replid() and 1 or 0 end
  end
  return 0
end

-- vacant (no key) : a slot's record, its hash slot
--
-- Notes that nothing of the slot is here, if that is so. In a cluster only. What is here already takes no
-- note back: it came after it.
local function vacant(_, args)
  if redis.call('CLUSTER', 'COUNTKEYSINSLOT', args[2]) > 0 then return 0 end
  vacancies[args[1]] = replid()
  return 1
end

-- fence <slot> : epoch
--
-- Nothing below this epoch is written any more, and the gate is shut until it is opened above it.
local function fence(keys, args)
  local epoch = number(args[1], 'the fence')
  local slot = slot_of(keys[1])
  if epoch <= slot.fence then return { 'OK', int(slot.fence) } end
  redis.call('HSET', keys[1], 'fence', int(epoch), 'token', '')
  gates[slot.token] = nil
  return { 'OK', int(epoch) }
end

---------------------------------------------------------------------------------------- a stream

local function load(meta_key)
  local stored = redis.call('HMGET', meta_key,
    'epoch', 'tail', 'hwm', 'floor', 'bytes', 'gone', 'time', 'ends', 'row', 'level')
  local meta = {
    exists = stored[1] ~= false,
    epoch = tonumber(stored[1] or '0'),
    tail = tonumber(stored[2] or '0'),
    hwm = tonumber(stored[3] or '0'),
    floor = tonumber(stored[4] or '0'),
    bytes = tonumber(stored[5] or '0'),
    gone = tonumber(stored[6] or '0'),
    time = tonumber(stored[7] or '0'),
    ends = stored[8] or '', -- of the epochs before `epoch`: "e-s e-s", ascending
    row = stored[9] or '', -- the index's newest row: "seq time bytes-before"
    level = tonumber(stored[10] or '0'),
  }
  return meta
end

-- What an event counts: key, type and data.
local function size(event)
  local head = string.find(event, '\n', 1, true)
  if not head then return #event end
  return #event - head - 2
end

-- The stream's epochs with the last sequence of each, the open one included, ascending.
local function lineage(meta)
  local ends = {}
  for epoch, seq in string.gmatch(meta.ends, '(%d+)-(%d+)') do
    ends[#ends + 1] = { epoch = tonumber(epoch), seq = tonumber(seq) }
  end
  if meta.exists then ends[#ends + 1] = { epoch = meta.epoch, seq = meta.tail } end
  return ends
end

-- The epoch of the event with this sequence; of one that is still to come, the open epoch.
local function epoch_at(ends, seq, current)
  for i = 1, #ends do
    if ends[i].seq >= seq then return ends[i].epoch end
  end
  return current
end

-- A stream as its readers need it: with the slot's epochs.
local function history(slot_key, meta_key)
  local stored = redis.call('HMGET', slot_key, 'fence', 'epochs', 'pruned')
  local meta = load(meta_key)
  local known, torn = {}, {}
  for epoch, mark in string.gmatch(stored[2] or '', '(%d+)(!?)') do
    epoch = tonumber(epoch)
    known[epoch] = true
    if mark == '!' then torn[#torn + 1] = epoch end
  end
  local ends = lineage(meta)
  for i = 1, #ends do known[ends[i].epoch] = true end
  -- The newest epoch that was ever open: nothing will stand under a fence that nobody opened.
  local newest = string.match(stored[2] or '', '(%d+)$') or stored[1] or '0'
  local current = max(tonumber(newest), meta.epoch)
  local pruned = tonumber(stored[3] or '0')
  return { meta = meta, ends = ends, known = known, torn = torn, current = current, pruned = pruned }
end

-- Whether going on from an event of epoch `from` to one of epoch `to` crosses the end of an epoch
-- that may have lost events which were acknowledged. Above HOME nothing acknowledged can be lost so.
local function torn_between(h, from, to)
  if h.meta.level > 0 or from >= to then return false end
  if from <= h.pruned then return true end
  for i = 1, #h.torn do
    if h.torn[i] >= from and h.torn[i] < to then return true end
  end
  return false
end

-- The cursor at `seq`, spelled so that whoever holds it has been told of every loss before it.
local function cursor_at(h, seq)
  local following = epoch_at(h.ends, seq + 1, h.current)
  local epoch = epoch_at(h.ends, seq, h.current)
  if torn_between(h, epoch, following) then epoch = following end
  return offset(epoch, seq)
end

------------------------------------------------------------------------------------- the index

local function row_of(member)
  local seq, epoch, time, bytes = string.match(member, '^(%d+) (%d+) (%d+) (%d+)$')
  return { seq = tonumber(seq), epoch = tonumber(epoch), time = tonumber(time), bytes = tonumber(bytes) }
end

-- The last row for which `before` holds; it holds for the first rows and not for the rest.
local function last_row(index, before)
  local low, high, found = 0, redis.call('ZCARD', index) - 1, nil
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local row = row_of(redis.call('ZRANGE', index, middle, middle)[1])
    if before(row) then
      found, low = row, middle + 1
    else
      high = middle - 1
    end
  end
  return found
end

-- The last sequence, from the floor to `limit`, that lies before the first event for which `stop`
-- holds; and the bytes up to and with it. Looks at no more events than lie between two rows.
local function walk(log, index, meta, limit, before, stop)
  local seq, bytes = meta.floor, meta.gone
  -- A row beyond the limit would bring bytes of events that are not passed.
  local row = last_row(index, function(row) return row.seq - 1 <= limit and before(row) end)
  if row and row.seq - 1 > seq then seq, bytes = row.seq - 1, row.bytes end
  if seq >= limit then return seq, bytes end
  local from = offset(epoch_at(lineage(meta), seq + 1, meta.epoch), seq + 1)
  while true do
    local entries = redis.call('XRANGE', log, from, '+', 'COUNT', SCAN)
    for i = 1, #entries do
      local id, fields = entries[i][1], entries[i][2]
      local at = tonumber(string.match(id, '-(%d+)$'))
      if at > limit or stop(at, tonumber(fields[2]), bytes) then return seq, bytes end
      seq, bytes, from = at, bytes + size(fields[4]), '(' .. id
    end
    if #entries < SCAN then return seq, bytes end
  end
end

----------------------------------------------------------------------------------- the producers
--
-- A window is the runs of one producer, numbered lo..hi, oldest first. The newest run is in the
-- window's own field, each closed one in a field of its own: an append touches two of them however
-- many there are. A run is a stretch in which producer sequence and offset rise together.

local function window_of(producers, producer)
  local stored = redis.call('HGET', producers, producer)
  if not stored then
    return { lo = 1, hi = 0, old_lo = 1, old_hi = 0, last = -1, closed = {} }
  end
  local lo, hi, lo_last, first, count, epoch, seq =
    string.match(stored, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  local window = {
    lo = tonumber(lo), hi = tonumber(hi), lo_last = tonumber(lo_last),
    first = tonumber(first), count = tonumber(count), epoch = tonumber(epoch), seq = tonumber(seq),
    closed = {},
  }
  window.old_lo, window.old_hi = window.lo, window.hi
  window.last = window.first + window.count - 1
  return window
end

local function run_at(producers, producer, window, at)
  if at == window.hi then return window end
  local run = window.closed[at]
  if not run then
    local stored = redis.call('HGET', producers, producer .. '/' .. int(at))
    local first, count, epoch, seq = string.match(stored, '^(%d+) (%d+) (%d+) (%d+)$')
    run = { first = tonumber(first), count = tonumber(count), epoch = tonumber(epoch), seq = tonumber(seq) }
    window.closed[at] = run
  end
  return run
end

-- Notes `count` new events, whose sequences are above all earlier ones and follow each other.
local function push(producers, producer, window, seq, count, epoch, place)
  if window.hi >= window.lo and seq == window.last + 1 and epoch == window.epoch
    and place == window.seq + window.count then
    window.count = window.count + count
  else
    if window.hi >= window.lo then
      if window.lo == window.hi then window.lo_last = window.last end
      window.closed[window.hi] =
        { first = window.first, count = window.count, epoch = window.epoch, seq = window.seq }
    end
    window.hi = window.hi + 1
    window.first, window.count, window.epoch, window.seq = seq, count, epoch, place
  end
  window.last = seq + count - 1
  while window.lo < window.hi and window.lo_last + WINDOW <= window.last do
    window.lo = window.lo + 1
    local run = run_at(producers, producer, window, window.lo)
    window.lo_last = run.first + run.count - 1
  end
end

-- The offset of a sequence that is not above the newest: epoch and seq, or nothing.
local function find(producers, producer, window, seq)
  local low, high = window.lo, window.hi
  while low <= high do
    -- The newest runs are the likely ones: a retry follows its first attempt closely.
    local at = high
    if high - low > 3 and high ~= window.hi then at = math.floor((low + high) / 2) end
    local run = run_at(producers, producer, window, at)
    if seq < run.first then
      high = at - 1
    elseif seq < run.first + run.count then
      return run.epoch, run.seq + (seq - run.first)
    else
      low = at + 1
    end
  end
  return nil
end

local function copy(window)
  local saved = {}
  for key, value in pairs(window) do saved[key] = value end
  return saved
end

local function store(producers, recent, producer, window)
  local fields = { producer, table.concat({
    int(window.lo), int(window.hi), int(window.lo_last or 0),
    int(window.first), int(window.count), int(window.epoch), int(window.seq) }, ' ') }
  for at = max(window.old_hi, window.lo), window.hi - 1 do
    local run = window.closed[at]
    if run then
      fields[#fields + 1] = producer .. '/' .. int(at)
      fields[#fields + 1] = int(run.first) .. ' ' .. int(run.count) .. ' ' .. int(run.epoch) .. ' ' .. int(run.seq)
    end
  end
  -- In portions, because Lua passes only so many arguments.
  for at = 1, #fields, 1000 do
    redis.call('HSET', producers, unpack(fields, at, min(at + 999, #fields)))
  end
  for at = window.old_lo, min(window.lo, window.old_hi) - 1 do
    redis.call('HDEL', producers, producer .. '/' .. int(at))
  end
  redis.call('ZADD', recent, int(window.seq + window.count - 1), producer)
end

-- Forgets whoever appended least recently.
local function forget(producers, recent)
  local many = redis.call('ZCARD', recent) - PRODUCERS_MAX
  if many <= 0 then return end
  local oldest = redis.call('ZPOPMIN', recent, int(many))
  for i = 1, #oldest, 2 do
    local stored = redis.call('HGET', producers, oldest[i])
    local lo, hi = string.match(stored or '1 0', '^(%d+) (%d+)')
    redis.call('HDEL', producers, oldest[i])
    for at = tonumber(lo), tonumber(hi) - 1 do
      redis.call('HDEL', producers, oldest[i] .. '/' .. int(at))
    end
  end
end

----------------------------------------------------------------------------------------- append

-- How far apart rows of the index are: closer where little is kept, so that what is kept beyond
-- the limit between two trims is an eighth of it at the most, or 16 events.
local function spacing(keep_events, keep_bytes)
  local events, bytes = ROW_EVENTS, ROW_BYTES
  if keep_events then events = min(events, max(16, math.floor(keep_events / 8))) end
  if keep_bytes then bytes = min(bytes, max(4096, math.floor(keep_bytes / 8))) end
  return events, bytes
end

-- Lets go of whole stretches of the index: cheap enough for every append. What is left over is
-- trimmed exactly by `trim`.
local function trim_rows(log, index, meta, keep_events, keep_bytes, row_events, row_bytes)
  local cut = nil
  if keep_events and meta.tail - meta.floor >= keep_events + row_events then
    local limit = meta.tail - keep_events
    local found = redis.call('ZREVRANGEBYSCORE', index, int(limit + 1), '-inf', 'LIMIT', 0, 1)
    if found[1] then cut = row_of(found[1]) end
  end
  if keep_bytes and meta.bytes - meta.gone >= keep_bytes + row_bytes then
    local need = meta.bytes - keep_bytes
    local row = last_row(index, function(row) return row.bytes <= need end)
    if row and (not cut or row.seq > cut.seq) then cut = row end
  end
  if not cut or cut.seq - 1 <= meta.floor or cut.seq - 1 > meta.hwm then return false end
  meta.floor, meta.gone = cut.seq - 1, cut.bytes
  redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. int(cut.seq))
  redis.call('XTRIM', log, 'MINID', '~', offset(cut.epoch, cut.seq))
  return true
end

-- Forgets the oldest epochs of which nothing survives. The slot has forgotten them too by then.
local function prune_ends(ends, floor)
  local _, many = string.gsub(ends, '%-', '')
  for _ = EPOCHS_MAX, many - 1 do
    local rest, second = string.match(ends, '^%S+ (%d+%-(%d+).*)$')
    if tonumber(second) > floor then return ends end
    ends = rest
  end
  return ends
end

-- The first event under a new epoch seals the one before at its tail.
local function seal(meta, set)
  if meta.ends ~= '' then meta.ends = meta.ends .. ' ' end
  meta.ends = prune_ends(meta.ends .. offset(meta.epoch, meta.tail), meta.floor)
  set('ends', meta.ends)
end

-- Stores the windows that changed, and forgets the producers that were idle longest.
local function remember(producers, recent, windows)
  for producer, window in pairs(windows) do
    if window.changed then store(producers, recent, producer, window) end
  end
  forget(producers, recent)
end

-- Stores events of one epoch and time behind the tail, and says whether the index has a new row.
--
-- Only the first is given its id: Redis gives the others theirs, the next sequence each, which saves
-- spelling them out.
local function put(log, index, meta, epoch, time, events, row_events, row_bytes)
  local call, find = redis.call, string.find
  local time_text = int(time)
  local id, next_id = offset(epoch, meta.tail + 1), int(epoch) .. '-*'
  local row_seq, row_time, row_at = string.match(meta.row, '^(%d+) (%d+) (%d+)$')
  row_seq, row_time, row_at = tonumber(row_seq), tonumber(row_time), tonumber(row_at)
  local seq, bytes, new_row = meta.tail, meta.bytes, false
  for i = 1, #events do
    local event = events[i]
    seq = seq + 1
    if not row_seq or seq - row_seq >= row_events or bytes - row_at >= row_bytes
      or time - row_time >= ROW_MILLIS then
      row_seq, row_time, row_at = seq, time, bytes
      new_row = true
      call('ZADD', index, int(seq), table.concat({ int(seq), int(epoch), time_text, int(row_at) }, ' '))
    end
    call('XADD', log, id, 't', time_text, 'e', event)
    id = next_id
    bytes = bytes + #event - (find(event, '\n', 1, true) or -2) - 2
  end
  meta.exists, meta.epoch, meta.tail, meta.bytes, meta.time = true, epoch, seq, bytes, time
  if new_row then meta.row = table.concat({ int(row_seq), int(row_time), int(row_at) }, ' ') end
  return new_row
end

-- Tells who follows of events of one epoch and time, in one text: Redis packs it in C, and every further
-- text of this size that Lua makes costs as much again.
local function announce(channel, epoch, first, time, hwm, events)
  local message = { table.concat({ int(epoch), int(first), int(time), int(hwm) }, ' ') }
  for i = 1, #events do message[i + 1] = events[i] end
  redis.call('SPUBLISH', channel, cmsgpack.pack(message))
end

-- append <slot> <streams> <meta> <log> <index> <producers> <recent>
--   : epoch token level now keep-events keep-bytes channel stream
--     then per batch: number of spans, per span: producer, its first seq, count, and the events
--
-- Each batch is taken whole or not at all, and judged after those before it. Answers
--   OK <tail> <hwm> <level> <a word per batch>
--   LEVEL <level>   the stream was made at this one, which is below the one that is asked for
-- where the word is "+<offset of the first>" if all are new, "=<offset>[*],..." with a star on what
-- was there before, or "!<index> <newest seq>" if that event is below its producer's window.
local function append(keys, args)
  local slot_key, streams, meta_key, log, index = keys[1], keys[2], keys[3], keys[4], keys[5]
  local producers, recent = keys[6], keys[7]
  local epoch, token = number(args[1], 'the epoch'), args[2]
  local level, now = number(args[3], 'the level'), number(args[4], 'the time')
  local keep_events, keep_bytes, channel, stream = tonumber(args[5]), tonumber(args[6]), args[7], args[8]

  local refused = guard(slot_key, epoch, token)
  if refused then return refused end
  local meta = load(meta_key)
  if meta.epoch > epoch then return { 'SHUT', int(epoch), int(meta.epoch) } end
  -- What a stream was made at it keeps: who wants more is told, who wants less gets more.
  if meta.exists and level > meta.level then return { 'LEVEL', int(meta.level) } end
  if not meta.exists then meta.level = level end
  if not meta.exists and redis.call('EXISTS', log, index, producers, recent) > 0 then
    return { 'FOREIGN', stream }
  end

  -- Judge.
  local place, highest, many = meta.tail + 1, 0, 0
  local events, windows, words = {}, {}, {}
  local at = 9
  while at <= #args do
    local spans = number(args[at], 'the number of spans')
    at = at + 1
    local saved, before_place, before_events = {}, place, many
    local list, all_new, too_old, position = {}, true, nil, 0
    for _ = 1, spans do
      local producer = args[at]
      local first, count = number(args[at + 1], 'a sequence'), number(args[at + 2], 'a count')
      at = at + 3
      if first + count - 1 > NUMBER_MAX then number('', 'a sequence') end
      if at + count - 1 > #args then
        return redis.error_reply('ERR evergate: a batch holds fewer events than it says')
      end
      if not too_old then
        local window = windows[producer]
        if not window then
          window = window_of(producers, producer)
          windows[producer] = window
        end
        if not saved[producer] then saved[producer] = copy(window) end
        -- What is not above the newest, one by one; the rest of the span at once.
        local i = 0
        while i < count and first + i <= window.last do
          local known_epoch, known_seq = find(producers, producer, window, first + i)
          if not known_epoch then
            too_old = '!' .. int(position + i) .. ' ' .. int(window.last)
            break
          end
          all_new = false
          list[#list + 1] = offset(known_epoch, known_seq) .. '*'
          highest = max(highest, known_seq)
          i = i + 1
        end
        if i < count and not too_old then
          push(producers, producer, window, first + i, count - i, epoch, place)
          window.changed = true
          list[#list + 1] = { place, place + count - i - 1 }
          for j = i, count - 1 do
            many = many + 1
            events[many] = args[at + j]
          end
          place = place + count - i
        end
        position = position + count
      end
      at = at + count
    end
    if too_old then
      for producer, window in pairs(saved) do windows[producer] = window end
      for i = many, before_events + 1, -1 do events[i] = nil end
      many = before_events
      place = before_place
      words[#words + 1] = too_old
    elseif all_new then
      words[#words + 1] = '+' .. offset(epoch, before_place)
    else
      local offsets = {}
      for i = 1, #list do
        if type(list[i]) == 'table' then
          for new = list[i][1], list[i][2] do offsets[#offsets + 1] = offset(epoch, new) end
        else
          offsets[#offsets + 1] = list[i]
        end
      end
      words[#words + 1] = '=' .. table.concat(offsets, ',')
    end
  end
  if place > NUMBER_MAX then number('', 'the next sequence') end

  -- Write. From here on nothing can fail.
  local fields = {}
  local function set(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if many > 0 then
    if not meta.exists then
      redis.call('SADD', streams, stream)
      set('floor', '0')
      set('gone', '0')
      set('level', int(meta.level))
    elseif meta.epoch ~= epoch then
      seal(meta, set)
    end
    local first, time = meta.tail + 1, max(now, meta.time)
    local time_text = int(time)
    local row_events, row_bytes = spacing(keep_events, keep_bytes)
    if put(log, index, meta, epoch, time, events, row_events, row_bytes) then set('row', meta.row) end
    highest = meta.tail
    if meta.level == 0 then meta.hwm = meta.tail end
    set('epoch', int(epoch))
    set('tail', int(meta.tail))
    set('hwm', int(meta.hwm))
    set('bytes', int(meta.bytes))
    set('time', time_text)
    remember(producers, recent, windows)
    if trim_rows(log, index, meta, keep_events, keep_bytes, row_events, row_bytes) then
      set('floor', int(meta.floor))
      set('gone', int(meta.gone))
    end
    announce(channel, epoch, first, time, meta.hwm, events)
  elseif meta.exists and meta.tail > meta.hwm and (highest > meta.hwm or #words == 0) then
    -- What was asked about is not committed yet. A write of this call's own makes the WAIT that
    -- follows cover everything before it.
    set('asked', int(now))
  end
  if #fields > 0 then redis.call('HSET', meta_key, unpack(fields)) end
  local answer = { 'OK', offset(meta.epoch, meta.tail), int(meta.hwm), int(meta.level) }
  for i = 1, #words do answer[#answer + 1] = words[i] end
  return answer
end

-- apply <slot> <streams> <meta> <log> <index> <producers> <recent>
--   : epoch token level hwm keep-events keep-bytes channel stream prev-epoch prev-seq
--     then per run of one epoch and time: its epoch, first seq, time, number of events, and the events
--
-- Stores what another region's log holds, under the same offsets. The first event's predecessor is
-- named with its epoch, and every event must follow its predecessor exactly: a sequence alone may
-- stand on a fork. What is there already, on this very history, is passed over. Answers
--   OK <tail> <hwm>
--   PREV <tail>     something is missing in between: send what follows the tail
--   FORK <tail>     this log holds something else there, or the predecessor is not on its history
local function apply(keys, args)
  local slot_key, streams, meta_key, log, index = keys[1], keys[2], keys[3], keys[4], keys[5]
  local producers, recent = keys[6], keys[7]
  local epoch, token = number(args[1], 'the epoch'), args[2]
  local level, hwm = number(args[3], 'the level'), number(args[4], 'the mark')
  local keep_events, keep_bytes, channel, stream = tonumber(args[5]), tonumber(args[6]), args[7], args[8]
  local prev_epoch, prev_seq = number(args[9], 'the epoch before'), number(args[10], 'the sequence before')

  local refused = guard(slot_key, epoch, token)
  if refused then return refused end
  local meta = load(meta_key)
  if not meta.exists and redis.call('EXISTS', log, index, producers, recent) > 0 then
    return { 'FOREIGN', stream }
  end
  local ends = lineage(meta)
  local function answer(word)
    return { word, offset(meta.epoch, meta.tail), int(meta.hwm) }
  end
  -- Whether this log's history has an event, or the beginning, at exactly this place.
  local function has(at_epoch, seq)
    return seq == 0 or (seq <= meta.tail and epoch_at(ends, seq, meta.epoch) == at_epoch)
  end

  -- Judge.
  local runs, at = {}, 11
  while at <= #args do
    local run = { epoch = number(args[at], 'an epoch'), time = number(args[at + 2], 'a time'), events = {} }
    local first, count = number(args[at + 1], 'a sequence'), number(args[at + 3], 'a count')
    at = at + 4
    if at + count - 1 > #args or first ~= prev_seq + 1 or first + count - 1 > NUMBER_MAX
      or run.epoch < prev_epoch or run.epoch > epoch then
      return redis.error_reply('ERR evergate: a run is no continuation of what is before it')
    end
    for i = 0, count - 1 do
      local seq = first + i
      -- What is trimmed cannot be told from another history any more, and nobody reads it.
      if seq > meta.floor and seq <= meta.tail then
        if not has(run.epoch, seq) then return answer('FORK') end
      elseif seq > meta.tail then
        if #runs == 0 and #run.events == 0 then
          if prev_seq > meta.tail then return answer('PREV') end
          if prev_seq ~= meta.tail or not has(prev_epoch, prev_seq) then return answer('FORK') end
        end
        run.events[#run.events + 1] = args[at + i]
      end
      prev_epoch, prev_seq = run.epoch, seq
    end
    at = at + count
    if #run.events > 0 then runs[#runs + 1] = run end
  end

  -- Write. From here on nothing can fail.
  local fields = {}
  local function set(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if not meta.exists then meta.level = level end
  if #runs > 0 and not meta.exists then
    redis.call('SADD', streams, stream)
    set('floor', '0')
    set('gone', '0')
    set('level', int(meta.level))
  end
  local row_events, row_bytes = spacing(keep_events, keep_bytes)
  local windows = {}
  for _, run in ipairs(runs) do
    if meta.exists and meta.epoch ~= run.epoch then
      seal(meta, set)
    end
    run.first, run.time = meta.tail + 1, max(run.time, meta.time)
    -- So that a retry finds its first attempt here too, should this become the home.
    for i = 1, #run.events do
      local producer, seq = string.match(run.events[i], '^([^\t\n]+)\t(%d+)\t')
      if producer then
        local window = windows[producer] or window_of(producers, producer)
        windows[producer] = window
        if tonumber(seq) > window.last then
          push(producers, producer, window, tonumber(seq), 1, run.epoch, run.first + i - 1)
          window.changed = true
        end
      end
    end
    if put(log, index, meta, run.epoch, run.time, run.events, row_events, row_bytes) then set('row', meta.row) end
  end
  meta.hwm = max(meta.hwm, min(hwm, meta.tail))
  if #runs > 0 then
    set('epoch', int(meta.epoch))
    set('tail', int(meta.tail))
    set('bytes', int(meta.bytes))
    set('time', int(meta.time))
    remember(producers, recent, windows)
    if trim_rows(log, index, meta, keep_events, keep_bytes, row_events, row_bytes) then
      set('floor', int(meta.floor))
      set('gone', int(meta.gone))
    end
  end
  if meta.exists then
    set('hwm', int(meta.hwm))
    redis.call('HSET', meta_key, unpack(fields))
  end
  for _, run in ipairs(runs) do
    announce(channel, run.epoch, run.first, run.time, meta.hwm, run.events)
  end
  if #runs == 0 and meta.exists then
    redis.call('SPUBLISH', channel, 'C ' .. offset(meta.epoch, meta.hwm) .. '\n')
  end
  return answer('OK')
end

-- commit <slot> <meta> : epoch token seq channel
--
-- Everything up to `seq` was confirmed by a replica, on the connection that this call comes over.
local function commit(keys, args)
  local refused = guard(keys[1], number(args[1], 'the epoch'), args[2])
  if refused then return refused end
  local meta = load(keys[2])
  local mark = min(number(args[3], 'the mark'), meta.tail)
  if mark > meta.hwm then
    meta.hwm = mark
    redis.call('HSET', keys[2], 'hwm', int(mark))
    redis.call('SPUBLISH', args[4], 'C ' .. offset(meta.epoch, mark) .. '\n')
  end
  return { 'OK', int(meta.hwm) }
end

-- trim <meta> <log> <index> : keep-events keep-bytes oldest-time
--
-- Applies retention exactly. Needs no gate: it takes nothing back that was not due anyway.
local function trim(keys, args)
  local meta_key, log, index = keys[1], keys[2], keys[3]
  local keep_events, keep_bytes, oldest = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local meta = load(meta_key)
  if not meta.exists then return { 'OK', '0' } end
  local floor, gone = meta.floor, meta.gone
  local function advance(before, stop)
    local seq, bytes = walk(log, index, meta, meta.hwm, before, stop)
    if seq > floor then floor, gone = seq, bytes end
  end
  if keep_events and meta.tail - floor > keep_events then
    local limit = meta.tail - keep_events
    advance(function(row) return row.seq - 1 <= limit end, function(seq) return seq > limit end)
  end
  if keep_bytes and meta.bytes - gone > keep_bytes then
    local need = meta.bytes - keep_bytes
    advance(function(row) return row.bytes <= need end, function(_, _, bytes) return bytes >= need end)
  end
  if oldest then
    advance(function(row) return row.time < oldest end, function(_, time) return time >= oldest end)
  end
  if floor > meta.floor then
    redis.call('HSET', meta_key, 'floor', int(floor), 'gone', int(gone))
    meta.floor = floor
    -- The row that covers the floor stays: it knows the bytes before it.
    local row = redis.call('ZREVRANGEBYSCORE', index, int(floor + 1), '-inf', 'LIMIT', 0, 1)
    if row[1] then redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. int(row_of(row[1]).seq)) end
    local epoch = epoch_at(lineage(meta), floor + 1, meta.epoch)
    redis.call('XTRIM', log, 'MINID', '=', offset(epoch, floor + 1))
  end
  return { 'OK', int(meta.floor) }
end

---------------------------------------------------------------------------------------- reading

-- resume <slot> <meta> <log> : epoch seq first-that-is-there
--
-- The log is not read here, but named: while a cluster moves the slot, an answer from where only
-- some of the keys are would tell of losses that never were. So it is refused with TRYAGAIN.
--
-- Judges a cursor. The caller has read the range after it just before, on the same connection: what
-- is on the history now was so then. Answers
--   OK <hwm> <up to> <more>             the events after it, up to this sequence; `more` is 1 if
--                                       something is to be told right there
--   HOLD <committed>                    written here, but not committed yet
--   GAP <first missing> <cursor> <resumed at> <lost>      trimmed
--   FORK lost-tail|unknown <cursor> <resumed at>          not on this history
--   NEW                                 the slot was never opened, so there is no epoch to name
--   SHUT <fence> <fence>                the same of a cursor that is ahead, until the gate is opened
-- The third argument is 0, or the lowest sequence that a range read found: if somebody trimmed the
-- log by hand, the floor is what really survives.
local function resume(keys, args)
  local epoch, seq = number(args[1], 'the epoch'), number(args[2], 'the sequence')
  local found = number(args[3], 'the floor')
  local h = history(keys[1], keys[2])
  if h.current == 0 then return { 'NEW' } end
  local meta = h.meta
  local floor = max(meta.floor, found - 1)

  local function place_at(after)
    return cursor_at(h, after), offset(epoch_at(h.ends, after + 1, h.current), after + 1)
  end
  local function gap_cursor(after)
    local cursor, resumed_at = place_at(after)
    if after == 0 then cursor = offset(epoch_at(h.ends, 1, h.current), 0) end
    return cursor, resumed_at
  end
  local function fork(reason, after)
    local cursor, resumed_at = gap_cursor(after)
    return { 'FORK', reason, cursor, resumed_at }
  end

  local beginning = epoch == 0 and seq == 0
  if not beginning and not h.known[epoch] then return fork('unknown', floor) end
  local base, last = 0, 0
  for i = 1, #h.ends do
    if h.ends[i].epoch < epoch then base = h.ends[i].seq end
    if h.ends[i].epoch <= epoch then last = h.ends[i].seq end
  end
  if seq > last then
    -- The epoch was cut off, and nobody opened the next one yet: what follows has no name so far.
    local slot = slot_of(keys[1])
    if not slot.open then return { 'SHUT', int(slot.fence), int(slot.fence) } end
    return fork('lost-tail', max(last, floor))
  end
  if seq < base then return fork('unknown', floor) end
  if seq < floor then
    local cursor, resumed_at = gap_cursor(floor)
    local missing = offset(epoch_at(h.ends, seq + 1, h.current), seq + 1)
    return { 'GAP', missing, cursor, resumed_at, int(floor - seq) }
  end
  if seq > meta.hwm then return { 'HOLD', cursor_at(h, meta.hwm) } end

  -- An epoch that a crash ended may have lost events that were acknowledged at HOME and that nobody
  -- knows of. Whoever crosses its end is told so, once.
  if not beginning and torn_between(h, epoch, epoch_at(h.ends, seq + 1, h.current)) then
    return fork('lost-tail', seq)
  end
  local up_to, more = meta.hwm, 0
  for i = 1, #h.ends do
    local ending = h.ends[i]
    if ending.seq > seq and ending.seq <= up_to
      and torn_between(h, ending.epoch, epoch_at(h.ends, ending.seq + 1, h.current)) then
      up_to, more = ending.seq, 1
      break
    end
  end
  return { 'OK', int(meta.hwm), int(up_to), int(more) }
end

-- locate <slot> <meta> <log> <index> : latest|earliest|last|time number
local function locate(keys, args)
  local h = history(keys[1], keys[2])
  if h.current == 0 then return { 'NEW' } end
  local meta, kind, n = h.meta, args[1], number(args[2], 'the position')
  local seq = meta.hwm
  if kind == 'earliest' then
    seq = meta.floor
  elseif kind == 'last' then
    seq = max(meta.hwm - n, meta.floor)
  elseif kind == 'time' then
    seq = walk(keys[3], keys[4], meta, meta.hwm,
      function(row) return row.time < n end, function(_, time) return time >= n end)
  end
  return { 'OK', cursor_at(h, seq) }
end

-- status <slot> <meta> : what readers see, then what is not committed yet
local function status(keys)
  local h = history(keys[1], keys[2])
  if h.current == 0 then return { 'NEW' } end
  local meta = h.meta
  return { 'OK', cursor_at(h, meta.hwm), cursor_at(h, meta.floor), int(meta.bytes - meta.gone),
    cursor_at(h, meta.tail), int(meta.level) }
end

-- tails <slot> <meta>... : whether the gate is open, then per stream "<epoch> <tail> <hwm> <floor>"
local function tails(keys)
  local slot = slot_of(keys[1])
  local answer = { slot.open and 'OPEN' or 'SHUT', int(slot.fence) }
  for i = 2, #keys do
    local meta = load(keys[i])
    answer[#answer + 1] = table.concat({
      int(meta.epoch), int(meta.tail), int(meta.hwm), int(meta.floor) }, ' ')
  end
  return answer
end

-- version : of this file
local function version()
  return VERSION
end

-- permitted <a key> : the commands that the calling user lacks
local function permitted(keys, args)
  local key, channel, lacking = keys[1], args[1], {}
  local commands = {
    { 'INFO', 'replication' }, { 'HMGET', key, 'f' }, { 'HGET', key, 'f' }, { 'HSET', key, 'f', 'v' },
    { 'HDEL', key, 'f' }, { 'EXISTS', key }, { 'SADD', key, 'm' }, { 'SMEMBERS', key },
    { 'XADD', key, '*', 'f', 'v' }, { 'XRANGE', key, '-', '+' }, { 'XTRIM', key, 'MAXLEN', '1' },
    { 'ZADD', key, '1', 'm' }, { 'ZCARD', key }, { 'ZRANGE', key, '0', '0' }, { 'ZPOPMIN', key, '1' },
    { 'ZREVRANGEBYSCORE', key, '1', '0' }, { 'ZREMRANGEBYSCORE', key, '0', '1' },
    { 'SPUBLISH', channel, 'm' }, { 'SSUBSCRIBE', channel }, { 'WAIT', '0', '1' }, { 'TYPE', key },
    { 'HSET', 'stream:offsets:{s:0}:0', 'f', 'v' }, { 'EXPIRE', 'stream:offsets:{s:0}:0', '1' },
  }
  for i = 1, #commands do
    if not redis.acl_check_cmd(unpack(commands[i])) then lacking[#lacking + 1] = commands[i][1] end
  end
  return lacking
end

---------------------------------------------------------------------------------------- cursors

-- The places that are kept for clients:
--
--   stream:offsets:{<service>:<bucket>}:<day>   hash   16-byte digest -> cursor
--
-- A cursor is claim (4 bytes), 0 or 1 (acknowledged), position (opaque; empty until its client began). Every call is given the keys
-- of three days: tomorrow's, for the clocks of edges differ around midnight, today's and yesterday's.
-- A cursor is in one of them only. The rules are those of judge() and taken_over() in cursors.rs.

local CURSOR_SECONDS = 3 * 86400
local NOBODY = '\0\0\0\0'

local function cursor_of(keys, field)
  for _, day in ipairs({ 2, 3, 1 }) do
    local value = redis.call('HGET', keys[day], field)
    if value then return value, day end
  end
  return nil, nil
end

local function keep_cursors(keys, values, days)
  local today, tomorrow, old = {}, {}, {}
  for field, value in pairs(values) do
    local to = days[field] == 1 and tomorrow or today
    to[#to + 1] = field
    to[#to + 1] = value
    if days[field] == 3 then old[#old + 1] = field end
  end
  if #today > 0 then
    redis.call('HSET', keys[2], unpack(today))
    redis.call('EXPIRE', keys[2], CURSOR_SECONDS)
  end
  if #tomorrow > 0 then
    redis.call('HSET', keys[1], unpack(tomorrow))
    redis.call('EXPIRE', keys[1], CURSOR_SECONDS)
  end
  if #old > 0 then redis.call('HDEL', keys[3], unpack(old)) end
end

-- cursors_take <tomorrow> <today> <yesterday> :
--   field claim acknowledges(0|1) position(or empty) any|free|known
-- With `free`, only a cursor that nobody holds is taken, and what is kept of it stays; with `known`, only
-- one that is there. D says that it was not. Builds that know of no such wish leave the argument out.
local function cursors_take(keys, args)
  local field, claim, acknowledges, position = args[1], args[2], args[3] == '1', args[4]
  local free, known = args[5] == 'free', args[5] == 'known'
  if #keys ~= 3 or #args < 4 or #args > 5 or #claim ~= 4 then
    error({ err = 'ERR evergate: cursors_take is called with three keys and four or five arguments' })
  end
  local kept, day = cursor_of(keys, field)
  if known and not kept then return 'D' end
  if kept then
    local holder = string.sub(kept, 1, 4)
    if free and holder ~= NOBODY and holder ~= claim then return 'D' end
    local acknowledged = string.byte(kept, 5) == 1
    acknowledges = acknowledges or acknowledged
    -- What a browser has received says nothing of what its page has worked through.
    if position == '' or ((acknowledged or free) and #kept > 5) then position = string.sub(kept, 6) end
  end
  local value = claim .. string.char(acknowledges and 1 or 0) .. position
  keep_cursors(keys, { [field] = value }, { [field] = day })
  return position ~= '' and value
end

-- cursors_write <tomorrow> <today> <yesterday> : (field cursor)...
-- A cursor is given as it is to be kept if nothing is: with 0 where it is a hint, with 1 for an
-- acknowledgement. 2 more say that its connection has ended: then nobody holds it, and the position may
-- be empty.
-- Answers per cursor M (moved), R (replaced by another claim) or A (its client acknowledges).
local function cursors_write(keys, args)
  if #keys ~= 3 or #args == 0 or #args % 2 ~= 0 then
    error({ err = 'ERR evergate: cursors_write is called with three keys and two arguments a cursor' })
  end
  local fields = {}
  for i = 1, #args, 2 do fields[#fields + 1] = args[i] end
  local today = redis.call('HMGET', keys[2], unpack(fields))
  local kept, days, changed, answers = {}, {}, {}, {}
  for n, field in ipairs(fields) do
    if today[n] then
      kept[field], days[field] = today[n], 2
    elseif not kept[field] then
      kept[field], days[field] = cursor_of(keys, field)
    end
  end
  for n, field in ipairs(fields) do
    local old, given = kept[field], args[2 * n]
    local claim, by, position = string.sub(given, 1, 4), string.byte(given, 5), string.sub(given, 6)
    local last = by >= 2
    by = by % 2
    if old and string.sub(old, 1, 4) ~= claim then
      answers[n] = 'R'
    elseif old or position ~= '' then
      local acknowledged = old and string.byte(old, 5) == 1
      local stays = acknowledged and by == 0 and #old > 5
      if stays or (old and position == '') then
        by, position = string.byte(old, 5), string.sub(old, 6)
      elseif acknowledged then
        by = 1
      end
      local value = (last and NOBODY or claim) .. string.char(by) .. position
      kept[field], changed[field], answers[n] = value, value, stays and 'A' or 'M'
    else
      answers[n] = 'M'
    end
  end
  keep_cursors(keys, changed, days)
  return table.concat(answers)
end

---------------------------------------------------------------------------------------- exports

local function export(name, callback, flags)
  redis.register_function({ function_name = 'evergate_1_' .. name, callback = callback, flags = flags })
end

export('append', append, {})
export('apply', apply, {})
export('commit', commit, { 'allow-oom' })
export('trim', trim, { 'allow-oom' })
export('open', open, { 'allow-oom' })
export('fence', fence, { 'allow-oom' })
export('held', held, { 'no-writes', 'allow-oom' })
export('vacant', vacant, { 'no-writes', 'allow-oom' })
export('resume', resume, { 'no-writes', 'allow-oom' })
export('locate', locate, { 'no-writes', 'allow-oom' })
export('status', status, { 'no-writes', 'allow-oom' })
export('tails', tails, { 'no-writes', 'allow-oom' })
export('permitted', permitted, { 'no-writes', 'allow-oom' })
export('cursors_take', cursors_take, {})
export('cursors_write', cursors_write, {})
export('version', version, { 'no-writes', 'allow-oom' })
