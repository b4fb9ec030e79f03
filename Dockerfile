# The quickstart on a CPU: docker build -t ida-rd . && docker run --rm -v "$PWD/results:/ida-rd/results" ida-rd
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /ida-rd
COPY . .
RUN make install
CMD ["make", "quickstart"]
