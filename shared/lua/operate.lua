--[[ What an operator does to the tasks of a queue: retry, delete, purge. All in bounded steps.

retry:  failed -> pending, counters of failures and crashes begin anew.
        KEYS the shared keys   ARGV ids   Reply one letter an id: r = pending again, n = not failed
delete: removes a finished task: its result or its dead letter.
        KEYS the shared keys   ARGV ids   Reply one letter an id: d = deleted, a = still alive (cancel it first), n = unknown
purge:  removes tasks of one state unseen, as operators do on purpose.
        KEYS the shared keys   ARGV pending | scheduled | failed | results, most tasks   Reply how many went
]]
local function retry(keys, argv)
  if #argv < 1 or #argv > MAX_BATCH then return refuse('retry takes 1 to ' .. MAX_BATCH .. ' ids') end
  check_finish(keys)
  call('ZCARD', keys[PENDING]); call('ZCARD', keys[PARKED])
  local sequence, letters, n, paused = tonumber(call('HGET', keys[STATE], 'seq') or '0'), {}, 0, is_paused(keys)
  for i = 1, #argv do
    local id = argv[i]
    local record = call('ZSCORE', keys[FAILED], id) and call('HGET', keys[TASKS], id)
    letters[i] = record and 'r' or 'n'
    if record then
      n = n + 1
      call('ZREM', keys[FAILED], id)
      call('HDEL', keys[META], id)
      call('ZADD', keys[PENDING], pending_score(options_of(record).priority or DEFAULT.priority, sequence + n), id)
    end
  end
  if n > 0 then
    call('HSET', keys[STATE], 'seq', int(sequence + n))
    bump(keys, (clock()), { requeued = n })
    if not paused then wake(keys, n) end
  end
  return table.concat(letters)
end

local function delete(keys, argv)
  if #argv < 1 or #argv > MAX_BATCH then return refuse('delete takes 1 to ' .. MAX_BATCH .. ' ids') end
  check_finish(keys)
  local letters, n = {}, 0
  for i = 1, #argv do
    local id = argv[i]
    if call('ZREM', keys[FAILED], id) == 1 then
      call('HDEL', keys[TASKS], id)
      call('HDEL', keys[META], id)
      call('ZREM', keys[EXPIRING], id)
      letters[i], n = 'd', n + 1
    elseif call('HEXISTS', keys[TASKS], id) == 1 then
      letters[i] = 'a'
    elseif call('HDEL', keys[RESULTS], id) == 1 then
      call('ZREM', keys[DONE], id)
      letters[i], n = 'd', n + 1
    else
      letters[i] = 'n'
    end
  end
  bump(keys, (clock()), { deleted = n })
  return table.concat(letters)
end

local PLACES = { pending = PENDING, scheduled = SCHEDULED, failed = FAILED, results = DONE }

local function purge(keys, argv)
  local place, most = PLACES[argv[1]], tonumber(argv[2])
  if not place or not most or most < 1 or most > MAX_BATCH then return refuse('purge takes pending, scheduled, failed or results, and 1 to ' .. MAX_BATCH) end
  check_finish(keys)
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
  bump(keys, (clock()), { deleted = #ids, purged = place ~= DONE and #ids or 0 })
  return #ids
end

register('retry', retry)
register('delete', delete, 'allow-oom')
register('purge', purge, 'allow-oom')
