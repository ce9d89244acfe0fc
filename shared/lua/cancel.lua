--[[ cancel: any unfinished task -> cancelled, at once and for good. Runs under OOM.

KEYS  the shared keys, audit, then optionally running:<consumer>, notices:<consumer> of the holder
ARGV  who, for the audit | id | holder's consumer id ('' = not known) | what act of many this belongs to ('' or none: it is one
      of its own)
Reply 'cancelled' | 'running' = some consumer holds it: find which and call again with its keys
      | 'finished' = already terminal | 'unknown'

A running task is terminal in Redis before its handler knows: the fence refuses whatever the handler
still sends. The holder hears it on its wake channel, or by the notice with its next heartbeat.
]]
local NOTICES_CAP, NOTICES_TTL = 1000, 600000

local function notify_holder(keys, consumer, id)
  local notices = keys[OWN + 3]
  call('RPUSH', notices, 'cancel ' .. id)
  call('LTRIM', notices, -NOTICES_CAP, -1)
  call('PEXPIRE', notices, NOTICES_TTL)
  call('SPUBLISH', prefix_of(keys) .. 'wake:' .. consumer, 'cancel ' .. id)
end

local function cancel(keys, argv)
  local audit, who, id, holder, running = keys[OWN + 1], argv[1], argv[2], argv[3], keys[OWN + 2]
  if not id or not holder then return refuse('cancel takes who, an id and its holder') end
  local act = argv[4] or ''
  local wrong = check_audit(audit, who)
  if wrong then return wrong end
  if #act > MAX_WHO or find(act, '%c') then return refuse('the act must be one line of at most ' .. MAX_WHO .. ' bytes') end
  local record = call('HGET', keys[TASKS], id)
  if not record then
    return call('HEXISTS', keys[RESULTS], id) == 1 and 'finished' or 'unknown'
  end
  if call('ZSCORE', keys[FAILED], id) then return 'finished' end
  local pending, scheduled = call('ZSCORE', keys[PENDING], id), call('ZSCORE', keys[SCHEDULED], id)
  local waiting = pending or scheduled
  local held = not waiting and running and call('HGET', running, id)
  if not waiting and not held then return 'running' end
  if held and not keys[OWN + 3] then return refuse('cancel takes running:<consumer> together with notices:<consumer>') end
  if held then call('LLEN', keys[OWN + 3]) end
  check_finish(keys)

  local now = clock()
  if waiting then
    call('ZREM', keys[PENDING], id)
    call('ZREM', keys[SCHEDULED], id)
  else
    call('HDEL', running, id)
  end
  local m, kind, options = parse_meta(call('HGET', keys[META], id)), kind_of(record), options_of(record)
  -- Of the run that ends so, which began when it was claimed, else of the last one.
  if held then m.started, m.consumer = int(floor(tonumber(match(held, '^%d+') or 0) / 1000)), holder end
  local text = terminal_text('cancelled', kind, created_of(record), m.started, now, m, m.consumer, 'cancelled', '')
  finish(keys, id, text, options.retention or DEFAULT.retention, now)
  bump(keys, now, { cancelled = 1 }, { cancelled = { [kind] = 1 } })
  follow(keys, now, { id }, 'cancelled')
  if act == '' then note(audit, who, 'cancel', 1, id) else note_step(audit, who, 'cancel', 1, act, now) end
  if held then notify_holder(keys, holder, id) end
  return 'cancelled'
end

register('cancel', cancel, 'allow-oom', { 'audit' })
