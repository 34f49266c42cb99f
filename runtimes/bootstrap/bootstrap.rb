# frozen_string_literal: true

# Runs a Ruby function inside an execution environment. Speaks frames with the host on descriptor 3 and behaves towards
# the function as AWS's runtime client does. Works on Ruby 2.7 and later, started with --disable-gems: RubyGems takes
# several times as long to load as Ruby itself, so it is loaded when the function brings gems or needs one.

require 'json'
require 'logger'
require 'stringio'

module LambdaGems
  # Whether there are gems besides those of the installation; then their versions must win from the start.
  def self.brought?
    ENV.fetch('GEM_PATH', '').split(':').any? { |path| Dir.exist?(File.join(path, 'specifications')) } ||
      File.exist?(File.join(ENV.fetch('LAMBDA_TASK_ROOT', '/var/task'), 'Gemfile'))
  end

  def self.load
    return if @loaded

    @loaded = true
    Kernel.module_eval { alias_method :require, :require_without_gems }
    require 'rubygems'
  end
end

Object.autoload(:Gem, 'rubygems')

module Kernel
  alias require_without_gems require
  private :require_without_gems

  def require(path)
    require_without_gems(path)
  rescue LoadError => e
    raise if e.path != path || $LOADED_FEATURES.any? { |feature| feature.end_with?('/rubygems.rb') }

    LambdaGems.load
    require(path)
  end
  private :require
end

module LambdaLog
  MAGIC = [0xa55a0003].pack('N')

  # One message to the log, whole however many lines it has.
  def self.write(text)
    $stdout.flush
    text = text.b
    now = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond)
    data = MAGIC + [text.bytesize, now].pack('NQ>') + text
    STDOUT.syswrite(data).then { |sent| data = data.byteslice(sent..) } until data.empty?
    nil
  end

  # What a Logger on standard output writes to.
  class Device
    def write(text)
      LambdaLog.write(text)
    end

    def close; end

    def reopen(_log = nil)
      self
    end
  end

  # Whether the function's log is to consist of JSON objects (LoggingConfig's LogFormat): what a Logger writes, as on AWS.
  JSON_LOG = ENV['AWS_LAMBDA_LOG_FORMAT'].to_s.casecmp?('JSON')

  class JSONFormatter < Logger::Formatter
    def call(severity, time, progname, msg)
      failed = msg.is_a?(Exception)
      line = {
        timestamp: time.getutc.strftime('%Y-%m-%dT%H:%M:%S.%LZ'), level: severity == 'ANY' ? 'INFO' : severity,
        message: text(failed ? msg.message : msg2str(msg))
      }
      line[:logger] = text(progname) if progname
      line[:requestId] = $_global_aws_request_id if $_global_aws_request_id
      if failed
        trace = (msg.backtrace || []).map { |frame| text(frame) }
        line.update(errorType: msg.class.to_s, errorMessage: line[:message], stackTrace: trace)
      end
      "#{JSON.generate(line)}\n"
    end

    private

    # UTF-8, which JSON must be: a line of other bytes shall not fail the handler.
    def text(value)
      value = value.to_s
      value = value.dup.force_encoding(Encoding::UTF_8) if value.encoding == Encoding::BINARY
      value.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
    end
  end

  class Formatter < Logger::Formatter
    def call(severity, time, progname, msg)
      format("%s, [%s #%d] %5s %s -- %s: %s\n", severity[0], format_datetime(time), Process.pid, severity,
             $_global_aws_request_id, progname, msg2str(msg))
    end
  end

  module LoggerPatch
    def initialize(logdev, *args, **options)
      standard = logdev.nil? || logdev == $stdout || logdev == $stderr
      super(standard ? Device.new : logdev, *args, **options)
      return unless standard

      @default_formatter = JSON_LOG ? JSONFormatter.new : Formatter.new
      level = ENV['AWS_LAMBDA_LOG_LEVEL']
      # Logger has nothing below DEBUG.
      self.level = level.sub('TRACE', 'DEBUG') if JSON_LOG && level && !options.key?(:level)
    end
  end
end

class Logger
  prepend LambdaLog::LoggerPatch
end

module Kernel
  # Puts is one message, as on AWS.
  def puts(*args)
    return $stdout.puts(*args) unless $stdout.equal?(STDOUT)

    LambdaLog.write(args.flatten.map(&:to_s).join("\n"))
  end
  private :puts
end

class LambdaContext
  attr_reader :aws_request_id, :invoked_function_arn, :log_group_name, :log_stream_name, :function_name,
              :memory_limit_in_mb, :function_version, :identity, :client_context, :deadline_ms, :tenant_id

  def initialize(meta)
    @aws_request_id, deadline, @invoked_function_arn, _, client_context, identity = meta
    @deadline_ms = deadline.to_i
    @log_group_name = ENV['AWS_LAMBDA_LOG_GROUP_NAME']
    @log_stream_name = ENV['AWS_LAMBDA_LOG_STREAM_NAME']
    @function_name = ENV['AWS_LAMBDA_FUNCTION_NAME']
    @memory_limit_in_mb = ENV['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']
    @function_version = ENV['AWS_LAMBDA_FUNCTION_VERSION']
    @identity = JSON.parse(identity) unless identity.nil? || identity.empty?
    @client_context = JSON.parse(client_context) unless client_context.nil? || client_context.empty?
  end

  def get_remaining_time_in_millis
    [@deadline_ms - Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond), 0].max
  end
end

class LambdaRuntime
  CHANNEL = 3
  HEADER = 9
  MAX_LENGTH = 0xffffffff
  LARGEST_PROFILE = 1024 * 1024
  PROFILE = File.join(__dir__, 'profile.rb.bin')
  # The types that AWS's client names to the platform; all others are one.
  KNOWN_ERRORS = %w[ArgumentError NoMethodError Exception StandardError NameError LoadError SystemExit
                    SystemStackError].freeze

  def initialize
    @channel = IO.for_fd(CHANNEL, 'r+b', autoclose: false)
    @channel.close_on_exec = true
    @channel.sync = true
    @pid = Process.pid
    @buffer = String.new(capacity: 65_536, encoding: Encoding::BINARY)
  end

  def run
    root = ENV.fetch('LAMBDA_TASK_ROOT', '/var/task')
    $LOAD_PATH.unshift(root) unless $LOAD_PATH.include?(root)
    LambdaGems.load if LambdaGems.brought?
    @profile = load_profile if ARGV.delete('--profile')
    @up = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond)
    @profile&.begin
    load_handler(ENV.fetch('_HANDLER', ''))
    end_profile
    send_frame('R', @up.to_s)
    loop { serve(*receive) }
  end

  private

  # It has been compiled by the host, as that takes most of its time. Its lines in a trace look like those of RubyGems' require,
  # which warnings, frameworks and Ruby itself pass over.
  def load_profile
    RubyVM::InstructionSequence.load_from_binary(File.binread(PROFILE)).eval
    LambdaProfile
  end

  # Tells the host what init spent its time on, if it has been measured.
  def end_profile
    return unless @profile

    body = begin
      @profile.end
    rescue StandardError
      '' # no profile, then
    end
    @profile = nil
    send_frame('T', @up.to_s, body.bytesize <= LARGEST_PROFILE ? body : '')
  end

  # file.method or file.Class.method, where file may have a path and Class may be Outer::Inner.
  def load_handler(name)
    parts = name.split('.')
    unless [2, 3].include?(parts.size)
      raise ArgumentError, "Invalid handler #{parts}, must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD where " \
                           'FILENAME corresponds with an existing Ruby source file FILENAME.rb, CLASS is an optional ' \
                           'module/class namespace and METHOD is a callable method. If using CLASS, METHOD must be a ' \
                           'class-level method.'
    end
    @class_name = parts[1] if parts.size == 3
    @method_name = parts.last
    require parts.first
  rescue SystemExit
    raise
  rescue Exception => e # rubocop:disable Lint/RescueException -- also what is not a StandardError fails the init
    end_profile
    report('X', 'Init', "Init error when loading handler #{name}", e)
    leave(-4)
  end

  def call_handler(event, context)
    target = @class_name ? Kernel.const_get(@class_name) : TOPLEVEL_BINDING.receiver
    target.__send__(@method_name, event: event, context: context)
  end

  def serve(meta, body)
    $_global_aws_request_id = meta[0]
    trace = meta[3].to_s
    ENV['_X_AMZN_TRACE_ID'] = trace.empty? ? nil : trace
    response = marshal(call_handler(JSON.parse(body), LambdaContext.new(meta)))
    flush
    send_frame('S', '', response)
  rescue NameError => e # NoMethodError is one
    report('D', 'Function', 'Critical exception from handler', e)
    leave(-1)
  rescue StandardError => e
    report('F', 'Function', 'Error raised from handler method', e)
  rescue Exception => e # rubocop:disable Lint/RescueException -- exit in the handler comes here
    report('D', 'Function', 'Critical exception from handler', e)
    leave(-1)
  end

  def marshal(response)
    case response
    when StringIO, IO then response.read.to_s
    else response.to_json
    end
  end

  def report(type, classification, title, error)
    load_hints(error)
    kind = "#{classification}<#{error.class}>"
    object = { errorMessage: text(error.message), errorType: kind, stackTrace: trace(error) }
    LambdaLog.write(title)
    LambdaLog.write(JSON.pretty_generate(object))
    flush
    known = KNOWN_ERRORS.include?(error.class.to_s)
    send_frame(type, known ? kind : 'Function<UserException>', object.to_json)
  end

  # Ruby adds its suggestions to a NameError's message, which it does not have without gems.
  def load_hints(error)
    require 'did_you_mean' if error.is_a?(NameError)
  rescue LoadError
    nil
  end

  def trace(error)
    own = __FILE__
    (error.backtrace || []).lazy.map { |line| text(line) }.reject { |line| line.start_with?(own, '<internal:') }.first(100)
  end

  def text(string)
    string.dup.force_encoding(Encoding::UTF_8).scrub
  end

  def flush
    $stdout.flush
    $stderr.flush
  rescue IOError, SystemCallError
    nil
  end

  def leave(status)
    @channel.close
    exit!(status % 256)
  end

  # Waits to be forked; it returns in each environment that is.
  def park
    Kernel.require(File.join(__dir__, 'park.rb'))
    LambdaPark.run(method(:send_frame)) { @pid = Process.pid }
  end

  def receive
    data, meta_size, body_size = read_frame
    if data.start_with?('P')
      park
      return receive
    end
    meta = data.byteslice(HEADER, meta_size).force_encoding(Encoding::UTF_8)
    body = data.byteslice(HEADER + meta_size, body_size).force_encoding(Encoding::UTF_8)
    [meta.split("\0", -1), body]
  end

  def read_frame
    data = @buffer
    @channel.readpartial(65_536, data)
    data << @channel.readpartial(65_536) while data.bytesize < HEADER
    _, meta_size, body_size = data.unpack('CNN')
    size = HEADER + meta_size + body_size
    data << @channel.readpartial([size - data.bytesize, 1_048_576].min) while data.bytesize < size
    [data, meta_size, body_size]
  rescue EOFError, SystemCallError
    exit!(0) # the host has gone
  end

  def send_frame(type, meta = '', body = '')
    exit!(1) if Process.pid != @pid # a forked child that returned from the handler
    body = body.byteslice(0, MAX_LENGTH) if body.bytesize > MAX_LENGTH # the host refuses it for its size anyhow
    @channel.write(type.b + [meta.bytesize, body.bytesize].pack('NN') + meta.b, body)
  end
end

ENV.delete('LC_CTYPE') if ENV['LC_CTYPE'] == 'C.UTF-8' # which was only for Ruby's own start
$stdout.sync = true
LambdaRuntime.new.run
