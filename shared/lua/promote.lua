--[[ promote: scheduled -> pending, what is due, in bounded steps. Runs under OOM.

KEYS  the shared keys
ARGV  most tasks
Reply how many were promoted | ms until the next is due (0: more are due now, -1: none)

The whole move is one step, so any number of callers promotes each task once. The priority to enter
with is in the score. Records are read for their kinds alone, which are counted: large ones in several steps.
]]
local function promote(keys, argv)
  local most = tonumber(argv[1])
  if not (most and most >= 1 and most <= MAX_BATCH) then return refuse('promote takes 1 to ' .. MAX_BATCH .. ' tasks') end
  local now = clock()
  local due = call('ZRANGEBYSCORE', keys[SCHEDULED], '-inf', '(' .. int(now + 1), 'WITHSCORES', 'LIMIT', 0, most)
  local sequence = tonumber(call('HGET', keys[STATE], 'seq') or '0')
  call('ZCARD', keys[PENDING]); call('ZCARD', keys[PARKED])
  local paused = is_paused(keys)
  local n = #due / 2
  if n > 0 then
    check_stats(keys, now)
    local pending, kinds, bytes = {}, {}, 0
    for i = 1, n do
      local at, record = tonumber(due[2 * i]), call('HGET', keys[TASKS], due[2 * i - 1]) or ''
      pending[2 * i - 1] = pending_score((at - floor(at)) * 256, sequence + i)
      pending[2 * i] = due[2 * i - 1]
      tally(kinds, kind_of(record))
      bytes = bytes + #record
      if bytes > KINDS_BYTES then n = i; break end
    end
    call('HSET', keys[STATE], 'seq', int(sequence + n))
    bump(keys, now, { promoted = n }, { promoted = kinds })
    call('ZREMRANGEBYRANK', keys[SCHEDULED], 0, n - 1)
    call('ZADD', keys[PENDING], unpack(pending))
    if not paused then wake(keys, n) end
  end
  local first = call('ZRANGE', keys[SCHEDULED], 0, 0, 'WITHSCORES')[2]
  return { n, first and math.max(0, floor(tonumber(first)) - now) or -1 }
end

register('promote', promote, 'allow-oom')
