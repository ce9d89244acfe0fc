--[[ inspect: where tasks are and what is known of them. Reads only.

inspect: KEYS the shared keys   ARGV ids
         Reply per id 4: place (pending, scheduled, failed, running, done, unknown), score or '',
         record or terminal text, meta ('' = none)
overview: KEYS the shared keys
         Reply pending | scheduled | failed | tasks | results | parked | consumers | paused (0, 1) | now in ms
         | ms since when the oldest pending task is so ('' = none) | then the stats, name and value in turn, and
         as `handed_back` about how many of the scheduled were handed back unstarted and wait
]]
local function place_of(keys, id)
  for _, place in ipairs { { 'pending', PENDING }, { 'scheduled', SCHEDULED }, { 'failed', FAILED } } do
    local score = call('ZSCORE', keys[place[2]], id)
    if score then return place[1], score end
  end
  return 'running', ''
end

local function inspect(keys, argv)
  if #argv < 1 or #argv > MAX_BATCH then return refuse('inspect takes 1 to ' .. MAX_BATCH .. ' ids') end
  local reply = {}
  for i = 1, #argv do
    local id, at = argv[i], 4 * i - 3
    local record = call('HGET', keys[TASKS], id)
    if record then
      reply[at], reply[at + 1] = place_of(keys, id)
      reply[at + 2], reply[at + 3] = record, call('HGET', keys[META], id) or ''
    else
      local text = call('HGET', keys[RESULTS], id)
      reply[at], reply[at + 1] = text and 'done' or 'unknown', ''
      reply[at + 2], reply[at + 3] = text or '', ''
    end
  end
  return reply
end

local function overview(keys)
  local now, since = clock(), pending_since(keys)
  local reply = { call('ZCARD', keys[PENDING]), call('ZCARD', keys[SCHEDULED]), call('ZCARD', keys[FAILED]),
    call('HLEN', keys[TASKS]), call('HLEN', keys[RESULTS]), call('ZCARD', keys[PARKED]),
    call('ZCOUNT', keys[CONSUMERS], int(now), '+inf'), is_paused(keys) and 1 or 0, int(now),
    since and int(since) or '' }
  local stats = call('HGETALL', keys[STATS])
  for i = 1, #stats do reply[#reply + 1] = stats[i] end
  reply[#reply + 1], reply[#reply + 2] = 'handed_back', handed_back(keys, now)
  return reply
end

register('inspect', inspect, 'no-writes')
register('overview', overview, 'no-writes')
