--[[ The one way into a terminal state, so that results, waiters and followers agree.

A task in a terminal state other than failed leaves TASKS and META; what stays, for `retention`
ms, is its terminal text. A failed one stays whole in TASKS, with its place in FAILED.
]]
-- A failed task's body is its last error. One that failed before and then ended otherwise keeps its
-- last error too: in front of the body, its length in the header.
local function terminal_text(state, kind, created, started, now, m, consumer, reason, body)
  local header = state .. ' ' .. kind .. ' ' .. created .. ' ' .. started .. ' ' .. int(now) .. ' '
    .. m.failures .. ' ' .. m.crashes .. ' ' .. m.releases .. ' ' .. consumer .. ' ' .. reason
  if m.error == '' or state == 'failed' then return header .. '\n' .. body end
  return header .. ' ' .. #m.error .. '\n' .. m.error .. body
end

-- Tells who waits: `ends` are { id, sessions, text }. What goes to one session goes in one message, up to about so many bytes.
local MESSAGE_BYTES = 65536

local function tell_all(keys, ends)
  local channel, messages, ids = prefix_of(keys) .. 'done:', {}, {}
  local function add(session, head, text)
    local message = messages[session]
    if message and message.size + #text > MESSAGE_BYTES then
      call('SPUBLISH', channel .. session, table.concat(message))
      message = nil
    end
    if not message then
      message = { size = 0 }
      messages[session] = message
    end
    local m = #message
    message[m + 1], message[m + 2], message.size = head, text, message.size + #head + #text
  end

  for i = 1, #ends do
    local id, sessions, text = ends[i][1], ends[i][2], ends[i][3]
    ids[i] = id
    local head = #text .. ' ' .. id .. '\n'
    if not find(sessions, ',', 1, true) then
      add(sessions, head, text)
    else
      for session in string.gmatch(sessions, '[^,]+') do add(session, head, text) end
    end
  end
  for session, message in pairs(messages) do call('SPUBLISH', channel .. session, table.concat(message)) end
  call('HDEL', keys[WAITERS], unpack(ids))
end

local function tell(keys, id, sessions, text) tell_all(keys, { { id, sessions, text } }) end

-- Notes that `session` wants to hear of `id`; of one id at most MAX_SESSIONS bytes of sessions are told.
local MAX_SESSIONS = 2048

local function ask(keys, id, session)
  local sessions = call('HGET', keys[WAITERS], id)
  if not sessions then
    call('HSET', keys[WAITERS], id, session)
  elseif not find(',' .. sessions .. ',', ',' .. session .. ',', 1, true) and #sessions < MAX_SESSIONS then
    call('HSET', keys[WAITERS], id, sessions .. ',' .. session)
  end
end

local function wrong_waiter(session)
  if not session or #session < 1 or #session > 64 or find(session, '[^%w-]') then return refuse('waiter must match [A-Za-z0-9-]{1,64}') end
end

local function keep(keys, id, text, retention, now)
  if retention <= 0 then return end
  call('HSET', keys[RESULTS], id, text)
  call('ZADD', keys[DONE], int(now + retention), id)
end

-- Removes the task and leaves its terminal text behind.
local function finish(keys, id, text, retention, now)
  call('HDEL', keys[TASKS], id)
  call('HDEL', keys[META], id)
  call('ZREM', keys[EXPIRING], id)
  keep(keys, id, text, retention, now)
  local sessions = call('HGET', keys[WAITERS], id)
  if sessions then tell(keys, id, sessions, text) end
end

-- Into the dead-letter set: the task stays whole, for people to look at and to retry.
local function bury(keys, id, kind, created, m, now, consumer, reason, err)
  m.reason, m.error, m.at, m.consumer = reason, sub(err, 1, MAX_ERROR), int(now), consumer
  call('HSET', keys[META], id, format_meta(m))
  call('ZADD', keys[FAILED], int(now), id)
  local sessions = call('HGET', keys[WAITERS], id)
  if sessions then
    tell(keys, id, sessions, terminal_text('failed', kind, created, m.started, now, m, consumer, reason, m.error))
  end
end

-- `results --follow`: one message per batch, only while somebody follows.
local function is_followed(keys, now)
  local until_ms = call('HGET', keys[STATE], 'follow')
  return until_ms and tonumber(until_ms) > now
end

local function publish_ends(keys, ids, state)
  state = ' ' .. state
  call('SPUBLISH', prefix_of(keys) .. 'finished', table.concat(ids, state .. '\n') .. state)
end

local function follow(keys, now, ids, state)
  if ids[1] and is_followed(keys, now) then publish_ends(keys, ids, state) end
end

-- Reads every key that finish() and bury() write, before an edge's first write.
local function check_finish(keys)
  call('HLEN', keys[TASKS]); call('HLEN', keys[RESULTS]); call('HLEN', keys[WAITERS])
  call('ZCARD', keys[DONE]); call('ZCARD', keys[FAILED]); call('HLEN', keys[STATE]); call('ZCARD', keys[EXPIRING])
  check_stats(keys)
  return call('HLEN', keys[META])
end
