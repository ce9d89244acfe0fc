--[[ wait: asks to be told when tasks end; and progress: what a handler says of its task meanwhile.

wait:     KEYS the shared keys   ARGV waiter session | ids
          Reply per id: its terminal text if it has ended, 'waiting' = the session will get it on channel done:<session> (see
          tell_all), or 'unknown' (never here, or its result is gone)
progress: KEYS the shared keys, running:<consumer>   ARGV id | token | text (one line, at most 256 bytes)
          Reply 'ok' or 'stale'
follow:   KEYS the shared keys   ARGV ms for which the batches of ids that end are published on channel 'finished'

The asking and the looking are one step: a task cannot end between them unheard.
]]
local function failed_text(keys, id, record)
  local m = parse_meta(call('HGET', keys[META], id))
  return terminal_text('failed', kind_of(record), created_of(record), m.started, tonumber(m.at), m, m.consumer, m.reason, m.error)
end

local function wait(keys, argv)
  local session, reply = argv[1], {}
  local wrong = wrong_waiter(session)
  if wrong then return wrong end
  if #argv > MAX_BATCH + 1 then return refuse('wait takes at most ' .. MAX_BATCH .. ' ids') end
  for i = 2, #argv do
    local id = argv[i]
    local record = call('HGET', keys[TASKS], id)
    if not record then
      reply[i - 1] = call('HGET', keys[RESULTS], id) or 'unknown'
    elseif call('ZSCORE', keys[FAILED], id) then
      reply[i - 1] = failed_text(keys, id, record)
    else
      ask(keys, id, session)
      reply[i - 1] = 'waiting'
    end
  end
  return reply
end

local function progress(keys, argv)
  local id, text = argv[1], argv[3]
  if not text then return refuse('progress takes an id, its token and a text') end
  if #text > 256 or find(text, '[%c]') then return refuse('progress must be one line of at most 256 bytes') end
  if not held_score(call('HGET', keys[OWN + 1], id), argv[2]) then
    bump(keys, (clock()), { stale = 1 })
    return 'stale'
  end
  if text == '' then return 'ok' end -- only asked whether it is still the caller's
  local m = parse_meta(call('HGET', keys[META], id))
  m.progress = text
  call('HSET', keys[META], id, format_meta(m))
  return 'ok'
end

local function follow_for(keys, argv)
  local ms = tonumber(argv[1])
  if not (ms and ms >= 0 and ms <= 3600000) then return refuse('follow takes 0 to 3600000 ms') end
  local now = clock()
  local before = tonumber(call('HGET', keys[STATE], 'follow') or '0')
  if now + ms > before then call('HSET', keys[STATE], 'follow', int(now + ms)) end
  return redis.status_reply('OK')
end

register('wait', wait, 'allow-oom') -- a name on a list; who waits wants to hear of what ends, which frees memory
register('progress', progress, 'allow-oom', { 'running:<consumer>' })
register('follow', follow_for, 'allow-oom')
