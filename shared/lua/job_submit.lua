--[[ job_submit: chunks into a job; the last call seals it, and it starts. Refused under OOM.

KEYS  the shared keys, the job's 12
ARGV  position of the first chunk | total number of chunks if these are the last ('' if not) | number of spec
      texts | spec name, value ... | chunks
Reply 's' and the number of chunks that are there | 'x' 0 = another submitter's job has this id | 'd' 0 = it was deleted
      while it was being submitted

Resumable: a chunk that is there already is skipped by its position. If the submitter dies between two calls
nothing has run; the maintainer fails the job as abandoned an hour after the last call.
]]
local MAX_SPEC = 64
local SPEC_NUMBERS = { fan_in = 1000, partitions = 1000, backups = 1, budget = 1125899906842624, retention = 315360000000 }
local SPEC_TEXTS = { form = 16, map = 128, reduce = 128, combine = 128, map_args = 65536, reduce_args = 65536, combine_args = 65536,
  map_head = 4096, reduce_head = 4096, allow = 16, spill = 2048, input = 4096, nonce = 128 }

local SPEC_DEFAULTS = { fan_in = '32', partitions = '0', allow = '0', backups = '1', budget = '268435456', retention = '86400000' }

local function check_spec(spec, now)
  for name, value in pairs(SPEC_DEFAULTS) do spec[name] = spec[name] or value end
  for name, value in pairs(spec) do
    local most, longest = SPEC_NUMBERS[name], SPEC_TEXTS[name]
    if not most and not longest then return 'unknown spec "' .. sub(name, 1, 64) .. '"' end
    if most and not (match(value, '^%d+$') and tonumber(value) <= most) then return name .. ' must be a number up to ' .. int(most) end
    if longest and #value > longest then return name .. ' exceeds ' .. int(longest) .. ' bytes' end
  end
  if spec.form ~= 'fold' and spec.form ~= 'keyed' then return 'form must be fold or keyed' end
  if spec.fan_in == '1' then return 'fan_in must be 0 (all) or 2 to 1000' end
  if spec.form == 'keyed' and spec.partitions == '0' then return 'partitions must be 1 to 1000' end
  if not find(spec.allow, '^[%d.]+%%?$') then return 'allow must be a number or a percentage' end
  for _, name in ipairs { 'map', 'reduce' } do
    local text = spec[name .. '_head'] or ''
    local head, why = read_head(text, now)
    if not head then return name .. '_head: ' .. why end
    if head.kind ~= spec[name] then return name .. '_head must begin with ' .. sub(spec[name] or 'a kind', 1, 128) end
    if head.due or head.expires_at then return name .. '_head takes no times' end
    if not find(match(text, '^[^\n]*') .. ' ', ' type=' .. name .. ' ', 1, true) then return name .. '_head must say type=' .. name end
  end
end

-- The arguments, checked: spec and the place of the first chunk; or nil and the reason.
local function read_submit(argv)
  local from, texts = tonumber(argv[1]), tonumber(argv[3])
  if not from or from < 0 or from ~= floor(from) then return nil, 'position must be a whole number' end
  if not texts or texts < 0 or texts % 2 ~= 0 or texts > MAX_SPEC or 3 + texts > #argv then return nil, 'spec must be pairs' end
  local spec, first = {}, 4 + texts
  for i = 4, first - 1, 2 do spec[argv[i]] = argv[i + 1] end
  local n = #argv - first + 1
  if n > MAX_BATCH then return nil, 'at most ' .. MAX_BATCH .. ' chunks in a call' end
  if from + n > MAX_CHUNKS then return nil, 'a job has at most ' .. int(MAX_CHUNKS) .. ' chunks' end
  if argv[2] ~= '' and tonumber(argv[2]) ~= from + n then return nil, 'the total must be position and number of the last chunks' end
  for i = first, #argv do
    if #argv[i] > MAX_PAYLOAD then return nil, 'chunk ' .. int(from + i - first) .. ' exceeds ' .. MAX_PAYLOAD .. ' bytes' end
  end
  return { from = from, n = n, first = first, spec = spec, last = argv[2] ~= '' }
end

local function new_job(keys, spec, now)
  local fields = { 'v', '1', 'state', 'pending', 'created', int(now), 'touched', int(now) }
  for name, value in pairs(spec) do fields[#fields + 1] = name; fields[#fields + 1] = value end
  call('UNLINK', keys[AGAIN]) -- what is left of one that was deleted
  call('HSET', keys[JOB], unpack(fields))
  call('ZADD', keys[JOBS], int(now), job_id(keys))
  return load_job(keys, now)
end

local function keep_chunks(keys, job, argv, order)
  local chunks = {}
  for i = job.submitted - order.from, order.n - 1 do
    local chunk = argv[order.first + i]
    chunks[#chunks + 1] = int(order.from + i); chunks[#chunks + 1] = chunk
    if #chunk > job.largest then job.largest = #chunk end
  end
  if chunks[1] then call('HSET', keys[CHUNKS], unpack(chunks)) end
  job.submitted = math.max(job.submitted, order.from + order.n)
end

local function seal(keys, job, now)
  job.sealed, job.maps, job.state = 1, job.submitted, 'mapping'
  begin_epoch(keys, job)
  if job.maps == 0 then
    if job.form == 'fold' then
      call('HSET', keys[OUT], '0', 'inull\n')
      job.result_bytes = 6
    end
    return end_job(keys, job, 'completed', '', now)
  end
  job.reduces = job.partitions
  if job.form == 'fold' then
    local sizes, top = levels_of(job)
    job.reduces = 0
    for level = 1, top do job.reduces = job.reduces + sizes[level] end
  end
  if feed(keys, job) then call('ZADD', keys[JOBS_DUE], int(now), job.id) end
  wake_maintainer(keys, 'jobs') -- it looks after active jobs, and only then
end

local function job_submit(keys, argv)
  local order, why = read_submit(argv)
  if not order then return refuse(why) end
  if job_id(keys) == '' then return refuse('job ids must match [A-Za-z0-9_-]{1,64}') end
  local now = clock()
  check_job(keys)
  local job, damaged = load_job(keys, now)
  if damaged then return refuse('the record of this job is damaged: delete its keys') end
  if job and job.nonce ~= order.spec.nonce then return { 'x', 0 } end
  if not job and order.from > 0 and call('LRANGE', keys[AGAIN], 0, 0)[1] == 'deleted ' .. (order.spec.nonce or '') then return { 'd', 0 } end
  if (job and job.submitted or 0) < order.from then return refuse('chunk ' .. int(order.from) .. ' comes before its predecessors') end
  if job and (job.sealed == 1 or JOB_OVER[job.state]) then return { 's', job.submitted } end
  if not job then
    why = check_spec(order.spec, now)
    if why then return refuse(why) end
    job = new_job(keys, order.spec, now)
  end
  job.touched = now
  keep_chunks(keys, job, argv, order)
  call('ZADD', keys[JOBS_DUE], int(now + TEND_EVERY), job.id)
  if order.last then seal(keys, job, now) end
  save_job(keys, job, now)
  return { 's', job.submitted }
end

register('job_submit', job_submit, nil, { "the job's 12" })
