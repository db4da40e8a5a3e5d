/* System calls for _stream.pyx. */
#ifndef ECHORIG_STREAM_H
#define ECHORIG_STREAM_H

#include <sys/socket.h>
#include <sys/types.h>

/* Without MSG_NOSIGNAL a closed connection raises SIGPIPE; Python ignores that signal where the flag does not exist. */
#ifdef MSG_NOSIGNAL
#define ER_SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#else
#define ER_SEND_FLAGS MSG_DONTWAIT
#endif
#endif
