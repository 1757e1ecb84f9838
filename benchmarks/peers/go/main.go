// The peer in Go: net/http, the three paths of benchmarks/apps.py. Argument: the port. Run it with GOMAXPROCS=1.
package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
)

var (
	hello = []byte("hello, world")
	large = bytes.Repeat([]byte("x"), 100*1024)
)

func answer(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		log.Print(err)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, body)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: peer PORT")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { answer(w, hello) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { answer(w, large) })
	mux.HandleFunc("/echo", echo)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}
