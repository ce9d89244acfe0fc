--[[ What an operator does to the tasks of a queue: retry, delete, purge. All in bounded steps.

Each is noted in the audit, see audit.lua: who is the first argument of all.

retry:  failed -> pending, counters of failures and crashes begin anew.
        KEYS the shared keys, audit   ARGV who | ids   Reply one letter an id: r = pending again, n = not failed
delete: removes a finished task: its result or its dead letter.
        KEYS the shared keys, audit   ARGV who | ids   Reply one letter an id: d = deleted, a = still alive (cancel it first), n = unknown
purge:  removes tasks of one state unseen, as operators do on purpose.
        KEYS the shared keys, audit, then optionally inbox, inbox:ingesting (for `inbox`)
        ARGV who | pending | scheduled | failed | results | inbox, most tasks   Reply how many went
]]
local function retry(keys, argv)
  local audit, who = keys[OWN + 1], argv[1]
  if #argv < 2 or #argv > MAX_BATCH + 1 then return refuse('retry takes 1 to ' .. MAX_BATCH .. ' ids') end
  local wrong = check_audit(audit, who)
  if wrong then return wrong end
  check_finish(keys)
  call('ZCARD', keys[PENDING]); call('ZCARD', keys[PARKED])
  local sequence, letters, n, paused, again = tonumber(call('HGET', keys[STATE], 'seq') or '0'), {}, 0, is_paused(keys), {}
  local kinds = {}
  for i = 2, #argv do
    local id = argv[i]
    local record = call('ZSCORE', keys[FAILED], id) and call('HGET', keys[TASKS], id)
    letters[i - 1] = record and 'r' or 'n'
    if record then
      n = n + 1
      again[n] = id
      tally(kinds, kind_of(record))
      call('ZREM', keys[FAILED], id)
      call('HDEL', keys[META], id)
      call('ZADD', keys[PENDING], pending_score(options_of(record).priority or DEFAULT.priority, sequence + n), id)
    end
  end
  if n > 0 then
    call('HSET', keys[STATE], 'seq', int(sequence + n))
    bump(keys, (clock()), { requeued = n }, { requeued = kinds })
    note_ids(audit, who, 'retry', again)
    if not paused then wake(keys, n) end
  end
  return table.concat(letters)
end

local function delete(keys, argv)
  local audit, who = keys[OWN + 1], argv[1]
  if #argv < 2 or #argv > MAX_BATCH + 1 then return refuse('delete takes 1 to ' .. MAX_BATCH .. ' ids') end
  local wrong = check_audit(audit, who)
  if wrong then return wrong end
  check_finish(keys)
  local letters, gone = {}, {}
  for i = 2, #argv do
    local id, letter = argv[i], 'n'
    if call('ZREM', keys[FAILED], id) == 1 then
      call('HDEL', keys[TASKS], id)
      call('HDEL', keys[META], id)
      call('ZREM', keys[EXPIRING], id)
      letter = 'd'
    elseif call('HEXISTS', keys[TASKS], id) == 1 then
      letter = 'a'
    elseif call('HDEL', keys[RESULTS], id) == 1 then
      call('ZREM', keys[DONE], id)
      letter = 'd'
    end
    letters[i - 1] = letter
    if letter == 'd' then gone[#gone + 1] = id end
  end
  bump(keys, (clock()), { deleted = #gone })
  note_ids(audit, who, 'delete', gone)
  return table.concat(letters)
end

local purge -- in a block with what only it needs: Lua allows 200 local names in one

do
  local PLACES = { pending = PENDING, scheduled = SCHEDULED, failed = FAILED, results = DONE }

  -- How many of at most `most` items went that are no tasks yet: from the heads on, the oldest first, as ingest takes them.
  -- An ingest under way loses nothing by it: one call sees both lists, and what goes from one to the other meanwhile (BLMOVE)
  -- is before or after it in one of them. Ingest moves only what still stands at the head, byte for byte: of what it peeked
  -- at and is gone here it moves nothing, and looks again. So each item is counted once, by this or by ingest. They were never submitted:
  -- `purged` stands for tasks that were, and stays.
  local function purge_inbox(keys, most)
    local there, gone = { call('LLEN', keys[OWN + 2]), call('LLEN', keys[OWN + 3]) }, 0
    for i = 2, 1, -1 do -- what was moved to inbox:ingesting is older
      local n = math.min(there[i], most - gone)
      if n > 0 then call('LTRIM', keys[OWN + 1 + i], n, -1) end
      gone = gone + n
    end
    return gone
  end

  function purge(keys, argv)
    local audit, who, what, most = keys[OWN + 1], argv[1], argv[2], tonumber(argv[3])
    local place = PLACES[what]
    if not ((place or what == 'inbox') and most and most >= 1 and most <= MAX_BATCH) then return refuse('purge takes pending, scheduled, failed, results or inbox, and 1 to ' .. MAX_BATCH) end
    if not place and not keys[OWN + 3] then return refuse('purge of inbox takes inbox and inbox:ingesting behind audit') end
    local wrong = check_audit(audit, who)
    if wrong then return wrong end
    check_finish(keys)
    if not place then
      local gone = purge_inbox(keys, floor(most))
      if gone > 0 then
        local now = clock()
        bump(keys, now, { deleted = gone })
        note_step(audit, who, 'purge', gone, what, now)
      end
      return gone
    end
    local ids = call('ZRANGE', keys[place], 0, most - 1)
    if not ids[1] then return 0 end
    call('ZREM', keys[place], unpack(ids))
    if place == DONE then
      call('HDEL', keys[RESULTS], unpack(ids))
    else
      call('HDEL', keys[TASKS], unpack(ids))
      call('HDEL', keys[META], unpack(ids))
      call('HDEL', keys[WAITERS], unpack(ids))
      call('ZREM', keys[EXPIRING], unpack(ids))
    end
    local now = clock()
    bump(keys, now, { deleted = #ids, purged = place ~= DONE and #ids or 0 })
    note_step(audit, who, 'purge', #ids, what, now)
    return #ids
  end
end

register('retry', retry, nil, { 'audit' })
register('delete', delete, 'allow-oom', { 'audit' })
register('purge', purge, 'allow-oom', { 'audit' })
