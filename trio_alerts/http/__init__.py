"""HTTP to receivers and to OpenSearch: names, connections, requests, answers, and where nobody may connect to."""
