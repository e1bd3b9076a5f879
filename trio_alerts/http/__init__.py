"""HTTP/1.1 to receivers and to OpenSearch, a layer a file, each of which knows only those below it.

    transport            a request in, an answer out
    pool                 connections, kept between requests
    resolver             a name -> its addresses
    address_check        addresses -> those that the setting `networks` allows (networks)
    connect              addresses -> a TCP connection
    socket               a connection, plain or TLS: send and receive
    watch                which of many sockets can be read

Without I/O: `request` renders, `response` parses, `status` says what an answer means, `authorities` whom TLS trusts.
"""
