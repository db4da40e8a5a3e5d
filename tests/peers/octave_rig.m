% A rig in Octave, with the logic of the MATLAB programs of the field and the real jsondecode and jsonencode.
%
% Usage: octave-cli octave_rig.m FD BUFFER EVENT SECONDS, with the descriptor of a UDP socket that is bound. It reads
% BUFFER bytes of each datagram. Once, it is busy for some SECONDS: before it reads anything (EVENT 0), or after it has
% echoed that event. Each message that it executes is a line on the standard output: the event, then the text.

1;  % so that this is a script, and not the file of a function
pkg load sockets

function code = first_element (message)
  decoded = jsondecode (message);
  if iscell (decoded)
    code = decoded{1};
  else  % numbers alone are a matrix, of which null is NaN; an empty array has no first element
    code = decoded(1);
  end
  if ~ any (code == 2 .^ (0:7))
    error ('%g is no member of the enumeration', code);
  end
end

args = argv ();
fd = str2double (args{1});
buffer = str2double (args{2});
busy_event = str2double (args{3});
busy_seconds = str2double (args{4});
names = containers.Map ('KeyType', 'double', 'ValueType', 'any');
names(1) = 'ready';
names(2) = 'running';
names(4) = 'stopped';
names(8) = 'tidy';
names(16) = 'halted';
names(32) = 'ok';
names(64) = ['f' char(252) 'r']; % one byte for each character
last_sent = '';

if busy_event == 0
  pause (busy_seconds);
end
while true
  [bytes, count, source] = recvfrom (fd, buffer);
  message = char (bytes);
  if strcmp (message, last_sent)
    continue
  end
  sendto (fd, bytes, source);
  try
    code = first_element (message);
    printf ('%d %s\n', code, message);
    fflush (stdout);
    if code == busy_event
      busy_event = NaN;
      pause (busy_seconds);
    end
    if code == 128
      continue
    end
    answer = jsonencode ({int8(code), names(code)});
  catch failure
    answer = jsonencode ({int8(0), failure.message, message});
  end
  last_sent = answer;
  sendto (fd, uint8 (answer), source);
end
